#include "net/authority.hpp"

#include <algorithm>
#include <filesystem>

#include "base/errors.hpp"
#include "base/new_file.hpp"
#include "net/client_ids.hpp"
#include "net/detail/certificates.hpp"

namespace fedctl::net {

namespace fs = std::filesystem;
using namespace detail;

namespace {

constexpr unsigned kPublic = 0644, kPrivate = 0600;

void write_public(const std::string& path, const std::string& text) {
  replace_file(path, as_bytes_of(std::string_view(text)), kPublic);
}

void make_folder(const std::string& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) throw RunDirectoryError(path + ": cannot create: " + failure.message());
}

// The key there, or a new one.
Key key_at(const std::string& path, KeyKind kind) {
  if (!fs::exists(path)) {
    Key key = make_key(kind);
    const std::string text = pem_of(*key);
    replace_file(path, as_bytes_of(std::string_view(text)), kPrivate);
    return key;
  }
  Key key = read_private_key(path, "ca");
  const int wanted = kind == KeyKind::ed25519 ? EVP_PKEY_ED25519 : EVP_PKEY_EC;
  if (EVP_PKEY_get_base_id(key.get()) == wanted) return key;
  throw ConfigError(path + ": is there already, and of another algorithm", "remove it");
}

// The certificate comes last: with it all is done.
Authority::Issued issue(const Signer& signer, const Leaf& leaf, const std::string& folder,
                        const Authority::Issued& issued, KeyKind kind, std::int64_t days) {
  if (fs::exists(issued.certificate)) {
    throw ConfigError(issued.certificate + ": is there already", "choose another --out");
  }
  make_folder(fs::path(issued.certificate).parent_path().string());
  const Key key = key_at(issued.key, kind);
  const Certificate certificate = make_leaf(signer, leaf, *key, days);
  write_public(folder + "/issued/" + serial_of(*certificate) + ".pem", pem_of(*certificate));
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
  make_folder(folder + "/issued");
  const Lock lock(folder);
  if (fs::exists(folder + "/authority.pem")) {
    throw ConfigError(folder + ": a certificate authority is there already",
                      "fedctl ca rotate replaces it, or choose another --dir");
  }
  const Key key = key_at(folder + "/authority.key", kind);
  const Certificate certificate = make_authority(*key, days);
  write_public(folder + "/revoked.pem", pem_of(*make_list(*certificate, *key)));
  write_public(folder + "/authority.pem", pem_of(*certificate));
  return Authority(folder);
}

Authority::Issued Authority::client_files(const std::string& ids, const std::string& out) {
  parse_ids(ids, "ca issue: the clients");
  return {out + "/client-" + ids + ".pem", out + "/client-" + ids + ".key"};
}

Authority::Issued Authority::issue_client(const std::string& ids, const std::string& out,
                                          KeyKind kind, std::int64_t days) const {
  const Issued files = client_files(ids, out);
  const Lock lock(*this);
  return issue(signer_of(trusted(), file("authority.key")),
               {"fedctl client " + ids, "URI:" + std::string(kClientsUri) + ids, "clientAuth"},
               folder_, files, kind, days);
}

Authority::Issued Authority::issue_server(const std::vector<std::string>& hosts,
                                          const std::string& out, KeyKind kind,
                                          std::int64_t days) const {
  const Lock lock(*this);
  return issue(signer_of(trusted(), file("authority.key")),
               {"fedctl server", alternative_names(hosts), "serverAuth"}, folder_,
               {out + "/server.pem", out + "/server.key"}, kind, days);
}

std::vector<std::string> Authority::revoke_file(const std::string& path) const {
  const Lock lock(*this);
  return revoke(path);
}

std::vector<std::string> Authority::revoke(const std::string& path) const {
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
  const Lock lock(*this);
  for (const auto& entry : fs::directory_iterator(file("issued"))) {
    if (entry.path().extension() == ".pem") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  for (const std::string& path : paths) {
    const std::string named = clients_of(*read_certificates(path, "ca").front());
    if (named.empty()) continue;
    std::vector<talk::PeerId> common;
    std::ranges::set_intersection(parse_ids(named, path), wanted, std::back_inserter(common));
    if (common.empty()) continue;
    any = true;
    const std::vector<std::string> fresh = revoke(path);
    revoked.insert(revoked.end(), fresh.begin(), fresh.end());
  }
  if (!any) throw ConfigError("ca revoke: no certificate was issued for client " + ids);
  return revoked;
}

}  // namespace fedctl::net
