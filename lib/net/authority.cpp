#include "net/authority.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/errors.hpp"
#include "net/client_ids.hpp"
#include "net/detail/certificates.hpp"

namespace fedctl::net {

namespace fs = std::filesystem;
using namespace detail;

namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw ConfigError(path + ": cannot " + what + ": " + std::strerror(errno));
}

// Whole or not at all; replaces what is there unless `exclusive`.
void write_file(const std::string& path, const std::string& text, int mode, bool exclusive) {
  if (exclusive && fs::exists(path)) {
    throw ConfigError(path + ": is there already", "remove it, or choose another --out");
  }
  const std::string temporary = path + ".tmp";
  ::unlink(temporary.c_str());
  const int out = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (out < 0) fail(temporary, "create");
  const bool whole = ::write(out, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                     ::fsync(out) == 0;
  ::close(out);
  if (!whole) fail(temporary, "write");
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "rename");
}
void write_public(const std::string& path, const std::string& text) {
  write_file(path, text, 0644, false);
}
void write_private(const std::string& path, EVP_PKEY& key) {
  write_file(path, pem_of(key), 0600, true);
}

Authority::Issued issue(const Signer& signer, const Leaf& leaf, const std::string& folder,
                        const std::string& out, const std::string& file, KeyKind kind,
                        std::int64_t days) {
  const Authority::Issued issued{out + '/' + file + ".pem", out + '/' + file + ".key"};
  for (const std::string& path : {issued.certificate, issued.key}) {
    if (fs::exists(path)) throw ConfigError(path + ": is there already", "choose another --out");
  }
  std::error_code failure;
  fs::create_directories(out, failure);
  if (failure) throw ConfigError(out + ": cannot create: " + failure.message());
  const Key key = make_key(kind);
  const Certificate certificate = make_leaf(signer, leaf, *key, days);
  write_public(folder + "/issued/" + serial_of(*certificate) + ".pem", pem_of(*certificate));
  write_private(issued.key, *key);
  write_public(issued.certificate, pem_of(*certificate));
  return issued;
}

Signer signer_of(const std::string& trusted, const std::string& key) {
  return {std::move(read_certificates(trusted, "ca").front()), read_private_key(key, "ca")};
}

}  // namespace

Authority::Authority(std::string folder) : folder_(std::move(folder)) {
  if (!fs::exists(trusted())) {
    throw ConfigError(folder_ + ": no certificate authority is there",
                      "fedctl ca init --dir " + folder_);
  }
}

Authority Authority::init(const std::string& folder, KeyKind kind, std::int64_t days) {
  if (fs::exists(folder + "/authority.pem")) {
    throw ConfigError(folder + ": a certificate authority is there already",
                      "fedctl ca rotate replaces it, or choose another --dir");
  }
  std::error_code failure;
  fs::create_directories(folder + "/issued", failure);
  if (failure) throw ConfigError(folder + ": cannot create: " + failure.message());
  const Key key = make_key(kind);
  const Certificate certificate = make_authority(*key, days);
  write_private(folder + "/authority.key", *key);
  write_public(folder + "/revoked.pem", pem_of(*make_list(*certificate, *key)));
  write_public(folder + "/authority.pem", pem_of(*certificate));
  return Authority(folder);
}

Authority::Issued Authority::issue_client(const std::string& ids, const std::string& out,
                                          KeyKind kind, std::int64_t days) const {
  parse_ids(ids, "ca issue: the clients");
  return issue(signer_of(trusted(), file("authority.key")),
               {"fedctl client " + ids, "URI:" + std::string(kClientsUri) + ids, "clientAuth"},
               folder_, out, "client-" + ids, kind, days);
}

Authority::Issued Authority::issue_server(const std::vector<std::string>& hosts,
                                          const std::string& out, KeyKind kind,
                                          std::int64_t days) const {
  return issue(signer_of(trusted(), file("authority.key")),
               {"fedctl server", alternative_names(hosts), "serverAuth"}, folder_, out, "server",
               kind, days);
}

std::vector<std::string> Authority::revoke_file(const std::string& path) const {
  const std::vector<Certificate> wanted = read_certificates(path, "ca revoke");
  X509& certificate = *wanted.front();
  const std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  const auto by = std::ranges::find_if(authorities, [&](const Certificate& authority) {
    return issued_by(certificate, *authority);
  });
  if (by == authorities.end()) {
    throw ConfigError(path + ": this authority has not issued it, or trusts its issuer no more");
  }
  const std::vector<RevocationList> lists = read_revocation_lists(revoked(), "ca");
  const auto list = std::ranges::find_if(lists, [&](const RevocationList& each) {
    return X509_NAME_cmp(X509_CRL_get_issuer(each.get()), X509_get_subject_name(by->get())) == 0;
  });
  if (list == lists.end()) throw ConfigError(revoked() + ": a revocation list is missing");
  if (!add_to_list(**list, certificate)) return {};
  const char* key = by == authorities.begin() ? "authority.key" : "previous.key";
  sign_list(**list, **by, *read_private_key(file(key), "ca"));
  write_public(revoked(), pem_of_all(lists));
  return {serial_of(certificate)};
}

std::vector<std::string> Authority::revoke_clients(const std::string& ids) const {
  const std::vector<talk::PeerId> wanted = parse_ids(ids, "ca revoke: the clients");
  std::vector<std::string> revoked, paths;
  bool any = false;
  for (const auto& entry : fs::directory_iterator(file("issued"))) paths.push_back(entry.path());
  std::ranges::sort(paths);
  for (const std::string& path : paths) {
    const std::string named = clients_of(*read_certificates(path, "ca").front());
    if (named.empty()) continue;
    std::vector<talk::PeerId> common;
    std::ranges::set_intersection(parse_ids(named, path), wanted, std::back_inserter(common));
    if (common.empty()) continue;
    any = true;
    const std::vector<std::string> fresh = revoke_file(path);
    revoked.insert(revoked.end(), fresh.begin(), fresh.end());
  }
  if (!any) throw ConfigError("ca revoke: no certificate was issued for client " + ids);
  return revoked;
}

void Authority::rotate(KeyKind kind, std::int64_t days) const {
  if (fs::exists(file("previous.key"))) {
    throw ConfigError(folder_ + ": a rotation is under way",
                      "fedctl ca rotate --finish, once all have new certificates");
  }
  std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  std::vector<RevocationList> lists = read_revocation_lists(revoked(), "ca");
  const Key key = make_key(kind);
  authorities.insert(authorities.begin(), make_authority(*key, days));
  lists.insert(lists.begin(), make_list(*authorities.front(), *key));
  fs::rename(file("authority.key"), file("previous.key"));
  write_private(file("authority.key"), *key);
  write_public(revoked(), pem_of_all(lists));
  write_public(trusted(), pem_of_all(authorities));
}

void Authority::finish_rotation() const {
  if (!fs::exists(file("previous.key"))) {
    throw ConfigError(folder_ + ": no rotation is under way", "fedctl ca rotate begins one");
  }
  const Certificate current = std::move(read_certificates(trusted(), "ca").front());
  write_public(trusted(), pem_of(*current));
  write_public(revoked(), pem_of(*read_revocation_lists(revoked(), "ca").front()));
  fs::remove(file("previous.key"));
  // What the old one has issued is worth nothing now.
  for (const auto& entry : fs::directory_iterator(file("issued"))) {
    const Certificate issued = std::move(read_certificates(entry.path(), "ca").front());
    if (!issued_by(*issued, *current)) fs::remove(entry.path());
  }
}

}  // namespace fedctl::net
