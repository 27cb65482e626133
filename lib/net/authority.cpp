#include "net/authority.hpp"

#include <fcntl.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/errors.hpp"
#include "net/client_ids.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net {

namespace fs = std::filesystem;
using namespace detail;

namespace {

constexpr std::int64_t kDaySeconds = 86'400;
constexpr std::int64_t kClockSlackSeconds = 300;  // of machines whose clocks differ

// OpenSSL's calls fail for want of memory alone once their arguments are right.
void require(bool done, const char* what) {
  if (!done) throw Error(std::string("certificates: ") + what + ": " + openssl_error("failed"));
}

// The text that `print` writes as PEM.
template <class Print>
std::string pem_of(Print print) {
  const Bio out(BIO_new(BIO_s_mem()));
  require(print(out.get()) == 1, "cannot write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}
std::string pem_of(X509& certificate) {
  return pem_of([&](BIO* out) { return PEM_write_bio_X509(out, &certificate); });
}
std::string pem_of(X509_CRL& list) {
  return pem_of([&](BIO* out) { return PEM_write_bio_X509_CRL(out, &list); });
}
std::string pem_of(EVP_PKEY& key) {
  return pem_of([&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, &key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

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

Key make_key(KeyKind kind) {
  Key key(kind == KeyKind::ed25519 ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                                   : EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
  require(key != nullptr, "cannot make a key");
  return key;
}

void free_text(char* text) { OPENSSL_free(text); }

std::string hex_of(const ASN1_INTEGER& serial) {
  const Handle<BIGNUM, BN_free> number(ASN1_INTEGER_to_BN(&serial, nullptr));
  const Handle<char, free_text> text(BN_bn2hex(number.get()));
  return text.get();
}

void extend(X509& certificate, X509& issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, &issuer, &certificate, nullptr, nullptr, 0);
  const Handle<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  require(extension != nullptr && X509_add_ext(&certificate, extension.get(), -1) == 1,
          "cannot add an extension");
}

// A certificate for `key` without its extensions and signature.
Certificate begin_certificate(EVP_PKEY& key, const std::string& name, std::int64_t days) {
  Certificate certificate(X509_new());
  X509* raw = certificate.get();
  std::array<unsigned char, 16> serial{};
  require(RAND_bytes(serial.data(), serial.size()) == 1, "no random bytes");
  serial[0] = static_cast<unsigned char>((serial[0] & 0x3F) | 0x40);  // positive, all 16 bytes
  const Handle<BIGNUM, BN_free> number(BN_bin2bn(serial.data(), serial.size(), nullptr));
  BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(raw));
  X509_set_version(raw, X509_VERSION_3);
  X509_gmtime_adj(X509_getm_notBefore(raw), -kClockSlackSeconds);
  X509_gmtime_adj(X509_getm_notAfter(raw), days * kDaySeconds);
  X509_set_pubkey(raw, &key);
  require(X509_NAME_add_entry_by_txt(X509_get_subject_name(raw), "CN", MBSTRING_UTF8,
                                     reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                     0) == 1,
          "cannot set a name");
  return certificate;
}

void sign(X509& certificate, X509& issuer, EVP_PKEY& key) {
  X509_set_issuer_name(&certificate, X509_get_subject_name(&issuer));
  require(X509_sign(&certificate, &key, digest_for(key)) > 0, "cannot sign");
}

Certificate make_authority(EVP_PKEY& key, std::int64_t days) {
  // Authorities that follow one another have different names.
  std::array<unsigned char, 4> mark{};
  require(RAND_bytes(mark.data(), mark.size()) == 1, "no random bytes");
  std::string name = "fedctl authority ";
  for (const unsigned char byte : mark) {
    constexpr char kDigits[] = "0123456789abcdef";
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  Certificate certificate = begin_certificate(key, name, days);
  X509& raw = *certificate;
  X509_set_issuer_name(&raw, X509_get_subject_name(&raw));
  extend(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  extend(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign");
  extend(raw, raw, NID_subject_key_identifier, "hash");
  sign(raw, raw, key);
  return certificate;
}

void sign_list(X509_CRL& list, X509& authority, EVP_PKEY& key) {
  const Handle<ASN1_TIME, ASN1_TIME_free> now(X509_gmtime_adj(nullptr, -kClockSlackSeconds));
  X509_CRL_set1_lastUpdate(&list, now.get());
  // What it says stays true; it is replaced when there is more to say.
  X509_CRL_set1_nextUpdate(&list, X509_get0_notAfter(&authority));
  X509_CRL_sort(&list);
  require(X509_CRL_sign(&list, &key, digest_for(key)) > 0, "cannot sign");
}

RevocationList make_list(X509& authority, EVP_PKEY& key) {
  RevocationList list(X509_CRL_new());
  X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(&authority));
  sign_list(*list, authority, key);
  return list;
}

template <class T>
std::string pem_of_all(const std::vector<T>& parts) {
  std::string text;
  for (const T& part : parts) text += pem_of(*part);
  return text;
}

// Names and addresses stand in a list of OpenSSL's own syntax.
std::string alternative_names(const std::vector<std::string>& hosts) {
  std::string names;
  for (const std::string& host : hosts) {
    const bool plain = !host.empty() && std::ranges::all_of(host, [](unsigned char letter) {
      return std::isalnum(letter) != 0 || letter == '.' || letter == '-' || letter == ':';
    });
    if (!plain) throw ConfigError("ca issue: \"" + host + "\" is no host name or address");
    const Handle<ASN1_OCTET_STRING, ASN1_OCTET_STRING_free> address(a2i_IPADDRESS(host.c_str()));
    ERR_clear_error();
    names += (names.empty() ? "" : ",") + std::string(address ? "IP:" : "DNS:") + host;
  }
  return names;
}

struct Signer {
  Certificate certificate;
  Key key;
};

struct Leaf {
  std::string name, alternative_names, usage, file;
};

Authority::Issued issue(const Signer& signer, const Leaf& leaf, const std::string& folder,
                        const std::string& out, KeyKind kind, std::int64_t days) {
  const Authority::Issued issued{out + '/' + leaf.file + ".pem", out + '/' + leaf.file + ".key"};
  for (const std::string& path : {issued.certificate, issued.key}) {
    if (fs::exists(path)) throw ConfigError(path + ": is there already", "choose another --out");
  }
  std::error_code failure;
  fs::create_directories(out, failure);
  if (failure) throw ConfigError(out + ": cannot create: " + failure.message());
  const Key key = make_key(kind);
  const Certificate certificate = begin_certificate(*key, leaf.name, days);
  X509& raw = *certificate;
  X509& by = *signer.certificate;
  extend(raw, by, NID_basic_constraints, "critical,CA:FALSE");
  extend(raw, by, NID_key_usage, "critical,digitalSignature");
  extend(raw, by, NID_ext_key_usage, leaf.usage);
  extend(raw, by, NID_subject_alt_name, leaf.alternative_names);
  extend(raw, by, NID_subject_key_identifier, "hash");
  extend(raw, by, NID_authority_key_identifier, "keyid:always");
  sign(raw, by, *signer.key);
  write_public(folder + "/issued/" + hex_of(*X509_get_serialNumber(&raw)) + ".pem", pem_of(raw));
  write_private(issued.key, *key);
  write_public(issued.certificate, pem_of(raw));
  return issued;
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

namespace {

Signer signer_of(const std::string& trusted, const std::string& key) {
  return {std::move(read_certificates(trusted, "ca").front()), read_private_key(key, "ca")};
}

}  // namespace

Authority::Issued Authority::issue_client(const std::string& ids, const std::string& out,
                                          KeyKind kind, std::int64_t days) const {
  parse_ids(ids, "ca issue: the clients");
  return issue(
      signer_of(trusted(), file("authority.key")),
      {"fedctl client " + ids, "URI:urn:fedctl:clients:" + ids, "clientAuth", "client-" + ids},
      folder_, out, kind, days);
}

Authority::Issued Authority::issue_server(const std::vector<std::string>& hosts,
                                          const std::string& out, KeyKind kind,
                                          std::int64_t days) const {
  return issue(signer_of(trusted(), file("authority.key")),
               {"fedctl server", alternative_names(hosts), "serverAuth", "server"}, folder_, out,
               kind, days);
}

std::vector<std::string> Authority::revoke_file(const std::string& path) const {
  const std::vector<Certificate> wanted = read_certificates(path, "ca revoke");
  X509& certificate = *wanted.front();
  const std::vector<Certificate> authorities = read_certificates(trusted(), "ca");
  const auto by = std::ranges::find_if(authorities, [&](const Certificate& authority) {
    return X509_NAME_cmp(X509_get_subject_name(authority.get()),
                         X509_get_issuer_name(&certificate)) == 0;
  });
  if (by == authorities.end()) {
    throw ConfigError(path + ": this authority has not issued it, or trusts its issuer no more");
  }
  const std::vector<RevocationList> lists = read_revocation_lists(revoked(), "ca");
  const auto list = std::ranges::find_if(lists, [&](const RevocationList& each) {
    return X509_NAME_cmp(X509_CRL_get_issuer(each.get()), X509_get_subject_name(by->get())) == 0;
  });
  if (list == lists.end()) throw ConfigError(revoked() + ": a revocation list is missing");
  ASN1_INTEGER* serial = X509_get_serialNumber(&certificate);
  X509_REVOKED* known = nullptr;
  if (X509_CRL_get0_by_serial(list->get(), &known, serial) == 1) return {};
  X509_REVOKED* entry = X509_REVOKED_new();
  const Handle<ASN1_TIME, ASN1_TIME_free> now(X509_gmtime_adj(nullptr, 0));
  X509_REVOKED_set_serialNumber(entry, serial);
  X509_REVOKED_set_revocationDate(entry, now.get());
  X509_CRL_add0_revoked(list->get(), entry);
  const char* key = by == authorities.begin() ? "authority.key" : "previous.key";
  sign_list(**list, **by, *read_private_key(file(key), "ca"));
  write_public(revoked(), pem_of_all(lists));
  return {hex_of(*serial)};
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
  write_public(trusted(), pem_of(*read_certificates(trusted(), "ca").front()));
  write_public(revoked(), pem_of(*read_revocation_lists(revoked(), "ca").front()));
  fs::remove(file("previous.key"));
  // What the old one has issued is worth nothing now.
  const Certificate current = std::move(read_certificates(trusted(), "ca").front());
  for (const auto& entry : fs::directory_iterator(file("issued"))) {
    const Certificate issued = std::move(read_certificates(entry.path(), "ca").front());
    if (X509_NAME_cmp(X509_get_issuer_name(issued.get()), X509_get_subject_name(current.get())) !=
        0) {
      fs::remove(entry.path());
    }
  }
}

}  // namespace fedctl::net
