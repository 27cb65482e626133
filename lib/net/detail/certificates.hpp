// Making certificates and revocation lists. For .cpp files of this room only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "net/authority.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net::detail {

struct Signer {
  Certificate certificate;
  Key key;
};
struct Leaf {
  std::string name, alternative_names, usage;
};

// All throw Error if OpenSSL fails.
Key make_key(KeyKind kind);
Certificate make_authority(EVP_PKEY& key, std::int64_t days);
Certificate make_leaf(const Signer& signer, const Leaf& leaf, EVP_PKEY& key, std::int64_t days);
RevocationList make_list(X509& authority, EVP_PKEY& key);
// False if the list holds it already.
bool add_to_list(X509_CRL& list, X509& certificate);
void sign_list(X509_CRL& list, X509& authority, EVP_PKEY& key);

std::string pem_of(X509& certificate);
std::string pem_of(X509_CRL& list);
std::string pem_of(EVP_PKEY& key);
template <class T>
std::string pem_of_all(const std::vector<T>& parts) {
  std::string text;
  for (const T& part : parts) text += pem_of(*part);
  return text;
}

// In hex, as other tools print it.
std::string serial_of(X509& certificate);
bool issued_by(X509& certificate, X509& authority);  // by name
// What a certificate for these names and addresses says. Throws ConfigError on what is neither.
std::string alternative_names(const std::vector<std::string>& hosts);

}  // namespace fedctl::net::detail
