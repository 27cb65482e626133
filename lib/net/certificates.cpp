#include "net/detail/certificates.hpp"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/digest.hpp"
#include "base/errors.hpp"

namespace fedctl::net {

using namespace detail;

namespace {

constexpr std::int64_t kDaySeconds = 86'400;
constexpr std::int64_t kClockSlackSeconds = 300;  // of machines whose clocks differ

// OpenSSL's calls fail for want of memory alone once their arguments are right.
void require(bool done, const char* what) {
  if (!done) throw Error(std::string("certificates: ") + what + ": " + openssl_error("failed"));
}

void free_text(char* text) { OPENSSL_free(text); }

// The text that `print` writes as PEM.
template <class Print>
std::string printed(Print print) {
  const Bio out(BIO_new(BIO_s_mem()));
  require(print(out.get()) == 1, "cannot write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
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

}  // namespace

Key detail::make_key(KeyKind kind) {
  Key key(kind == KeyKind::ed25519 ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                                   : EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
  require(key != nullptr, "cannot make a key");
  return key;
}

Certificate detail::make_authority(EVP_PKEY& key, std::int64_t days) {
  // Authorities that follow one another have different names.
  std::array<unsigned char, 4> mark{};
  require(RAND_bytes(mark.data(), mark.size()) == 1, "no random bytes");
  Certificate certificate =
      begin_certificate(key, "fedctl authority " + hex_of(std::as_bytes(std::span(mark))), days);
  X509& raw = *certificate;
  X509_set_issuer_name(&raw, X509_get_subject_name(&raw));
  extend(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  extend(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign");
  extend(raw, raw, NID_subject_key_identifier, "hash");
  sign(raw, raw, key);
  return certificate;
}

Certificate detail::make_leaf(const Signer& signer, const Leaf& leaf, EVP_PKEY& key,
                              std::int64_t days) {
  Certificate certificate = begin_certificate(key, leaf.name, days);
  X509& raw = *certificate;
  X509& by = *signer.certificate;
  extend(raw, by, NID_basic_constraints, "critical,CA:FALSE");
  extend(raw, by, NID_key_usage, "critical,digitalSignature");
  extend(raw, by, NID_ext_key_usage, leaf.usage);
  extend(raw, by, NID_subject_alt_name, leaf.alternative_names);
  extend(raw, by, NID_subject_key_identifier, "hash");
  extend(raw, by, NID_authority_key_identifier, "keyid:always");
  sign(raw, by, *signer.key);
  return certificate;
}

void detail::sign_list(X509_CRL& list, X509& authority, EVP_PKEY& key) {
  const Handle<ASN1_TIME, ASN1_TIME_free> now(X509_gmtime_adj(nullptr, -kClockSlackSeconds));
  X509_CRL_set1_lastUpdate(&list, now.get());
  // What it says stays true; it is replaced when there is more to say.
  X509_CRL_set1_nextUpdate(&list, X509_get0_notAfter(&authority));
  X509_CRL_sort(&list);
  require(X509_CRL_sign(&list, &key, digest_for(key)) > 0, "cannot sign");
}

RevocationList detail::make_list(X509& authority, EVP_PKEY& key) {
  RevocationList list(X509_CRL_new());
  X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(&authority));
  sign_list(*list, authority, key);
  return list;
}

bool detail::add_to_list(X509_CRL& list, X509& certificate) {
  ASN1_INTEGER* serial = X509_get_serialNumber(&certificate);
  X509_REVOKED* known = nullptr;
  if (X509_CRL_get0_by_serial(&list, &known, serial) == 1) return false;
  X509_REVOKED* entry = X509_REVOKED_new();
  const Handle<ASN1_TIME, ASN1_TIME_free> now(X509_gmtime_adj(nullptr, 0));
  X509_REVOKED_set_serialNumber(entry, serial);
  X509_REVOKED_set_revocationDate(entry, now.get());
  X509_CRL_add0_revoked(&list, entry);
  return true;
}

bool detail::issued_by(X509& certificate, X509& authority) {
  return X509_NAME_cmp(X509_get_issuer_name(&certificate), X509_get_subject_name(&authority)) == 0;
}

std::string detail::pem_of(X509& certificate) {
  return printed([&](BIO* out) { return PEM_write_bio_X509(out, &certificate); });
}
std::string detail::pem_of(X509_CRL& list) {
  return printed([&](BIO* out) { return PEM_write_bio_X509_CRL(out, &list); });
}
std::string detail::pem_of(EVP_PKEY& key) {
  return printed([&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, &key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

std::string detail::serial_of(X509& certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(&certificate);
  const Handle<BIGNUM, BN_free> number(ASN1_INTEGER_to_BN(serial, nullptr));
  const Handle<char, free_text> text(BN_bn2hex(number.get()));
  return text.get();
}

// Names and addresses stand in a list of OpenSSL's own syntax.
std::string detail::alternative_names(const std::vector<std::string>& hosts) {
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

}  // namespace fedctl::net
