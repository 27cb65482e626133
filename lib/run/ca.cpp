// The certificates of mutual TLS (docs/security.md).
#include <cstdio>
#include <filesystem>

#include "net/authority.hpp"
#include "run/commands.hpp"
#include "run/run_directory.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kAuthorityDays = 3650, kLeafDays = 365, kDaysMax = 36'500;

net::KeyKind kind_of(const std::string& name) {
  if (name == "ed25519") return net::KeyKind::ed25519;
  if (name == "p256") return net::KeyKind::p256;
  throw ConfigError("--algorithm is \"" + name + "\", must be ed25519 or p256");
}

// For a server's experiment. Absolute, since it may be used from anywhere.
std::string server_lines(const net::Authority& authority, const net::Authority::Issued& issued) {
  const auto line = [&](const char* key, const std::string& path) {
    return std::string("    ") + key + ": " + absolute_path(path) + '\n';
  };
  return "server:\n  tls:\n" + line("certificate", issued.certificate) + line("key", issued.key) +
         line("authority", authority.trusted()) + line("revoked", authority.revoked());
}

// The folder is all that a client's machine needs: the site file names what lies beside it.
std::string prepare_folder(const CaOptions& options, const net::Authority& authority,
                           const std::string& out) {
  const net::Authority::Issued files = net::Authority::client_files(options.ids, out);
  create_folder(out);
  if (!fs::equivalent(out, options.folder)) {
    if (fs::exists(out + "/authority.key")) {
      throw ConfigError(out + ": holds another authority", "choose another --out");
    }
    write_atomically(out + "/authority.pem", read_file(authority.trusted()));
  }
  const std::string site = out + "/client-" + options.ids + ".yaml";
  if (fs::exists(site)) return site;  // with what its owner has added
  const auto line = [](const char* key, const fs::path& path) {
    return std::string("  ") + key + ": " + path.filename().string() + '\n';
  };
  const std::string text = "tls:\n" + line("certificate", files.certificate) +
                           line("key", files.key) + line("authority", authority.trusted());
  write_atomically(site, as_bytes_of(std::string_view(text)));
  return site;
}

void issue(const CaOptions& options, const net::Authority& authority, net::KeyKind kind) {
  const std::int64_t days = options.days > 0 ? options.days : kLeafDays;
  const std::string out = options.out.empty() ? options.folder : options.out;
  if (!options.hosts.empty()) {
    const auto issued = authority.issue_server(options.hosts, out, kind, days);
    std::printf("%s", server_lines(authority, issued).c_str());
    return;
  }
  const std::string site = prepare_folder(options, authority, out);
  authority.issue_client(options.ids, out, kind, days);
  std::printf("%s\n", site.c_str());
}

}  // namespace

int ca(const CaOptions& options) {
  if (options.days < 0 || options.days > kDaysMax) {
    throw ConfigError("--days is " + std::to_string(options.days) + ", must be 1 to " +
                      std::to_string(kDaysMax));
  }
  const net::KeyKind kind = kind_of(options.algorithm);
  const std::int64_t days = options.days > 0 ? options.days : kAuthorityDays;
  if (options.action == "init") {
    std::printf("%s\n", net::Authority::init(options.folder, kind, days).trusted().c_str());
    return kDone;
  }
  const net::Authority authority(options.folder);
  if (options.action == "issue") {
    if (options.ids.empty() == options.hosts.empty()) {
      throw ConfigError("ca issue: give --ids A-B or --server HOST", "fedctl ca --help");
    }
    issue(options, authority, kind);
  } else if (options.action == "revoke") {
    if (options.ids.empty() == options.certificate.empty()) {
      throw ConfigError("ca revoke: give --ids A-B or --certificate FILE", "fedctl ca --help");
    }
    const std::vector<std::string> serials = options.ids.empty()
                                                 ? authority.revoke_file(options.certificate)
                                                 : authority.revoke_clients(options.ids);
    for (const std::string& serial : serials) std::printf("revoked %s\n", serial.c_str());
    if (serials.empty()) std::printf("revoked already\n");
  } else if (options.action == "rotate") {
    options.finish ? authority.finish_rotation() : authority.rotate(kind, days);
    std::printf("%s\n", authority.trusted().c_str());
  } else {
    throw ConfigError("ca: unknown action \"" + options.action + '"',
                      "init, issue, revoke or rotate");
  }
  return kDone;
}

}  // namespace fedctl::run
