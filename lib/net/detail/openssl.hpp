// OpenSSL's handles as owners, and its errors as text. For .cpp files of this room only.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"

namespace fedctl::net::detail {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* handle) const {
    release(handle);
  }
};
template <class T, auto release>
using Handle = std::unique_ptr<T, Release<release>>;

using Certificate = Handle<X509, X509_free>;
using RevocationList = Handle<X509_CRL, X509_CRL_free>;
using Key = Handle<EVP_PKEY, EVP_PKEY_free>;
using Bio = Handle<BIO, BIO_free_all>;
using SigningContext = Handle<EVP_MD_CTX, EVP_MD_CTX_free>;

inline const unsigned char* raw(ByteView bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

inline void free_bytes(unsigned char* bytes) { OPENSSL_free(bytes); }

// Ed25519 hashes for itself.
inline const EVP_MD* digest_for(const EVP_PKEY& key) {
  return EVP_PKEY_get_base_id(&key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

// The oldest error of this thread, or `otherwise`; the queue is empty then.
std::string openssl_error(const std::string& otherwise);

// Everything of its kind in a PEM file. Throws ConfigError naming `key` (the option it came from)
// if the file cannot be read or holds none.
std::vector<Certificate> read_certificates(const std::string& path, const std::string& key);
std::vector<RevocationList> read_revocation_lists(const std::string& path, const std::string& key);
// Throws ConfigError also if group or others may read the file.
Key read_private_key(const std::string& path, const std::string& key);

// All certificates of the file are trusted. Throws as read_certificates() does.
void trust(X509_STORE& store, const std::string& path, const std::string& key);
// Why the certificate does not descend from what the store trusts, or is not for this purpose
// ("ssl_client"); "" if it does and is. `chain` may be null.
std::string verify(X509_STORE& store, X509& certificate, STACK_OF(X509) * chain,
                   const char* purpose);

inline constexpr std::string_view kClientsUri = "urn:fedctl:clients:";
// "urn:fedctl:clients:0-7" among the subject's alternative names: "0-7"; "" if there is none.
std::string clients_of(X509& certificate);

}  // namespace fedctl::net::detail
