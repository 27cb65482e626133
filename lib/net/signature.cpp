#include "net/signature.hpp"

#include <span>

#include "base/digest.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net {

using namespace detail;

namespace {

void require_issued(X509& certificate, const std::string& authority) {
  const Handle<X509_STORE, X509_STORE_free> store(X509_STORE_new());
  trust(*store, authority, "--authority");
  X509_STORE_set_flags(store.get(), X509_V_FLAG_NO_CHECK_TIME);
  const std::string wrong = verify(*store, certificate, nullptr, "ssl_server");
  if (!wrong.empty()) throw ProtocolError("its certificate: " + wrong);
}

}  // namespace

std::string sign(const std::string& key_file, ByteView bytes) {
  const Key key = read_private_key(key_file, "server.tls.key");
  const SigningContext context(EVP_MD_CTX_new());
  std::size_t size = 0;
  std::vector<unsigned char> signature;
  bool done =
      EVP_DigestSignInit(context.get(), nullptr, digest_for(*key), nullptr, key.get()) == 1 &&
      EVP_DigestSign(context.get(), nullptr, &size, raw(bytes), bytes.size()) == 1;
  signature.resize(size);
  done =
      done && EVP_DigestSign(context.get(), signature.data(), &size, raw(bytes), bytes.size()) == 1;
  if (!done) throw ConfigError("server.tls.key: cannot sign: " + openssl_error("failed"));
  signature.resize(size);
  return hex_of(std::as_bytes(std::span(signature)));
}

void check_signature(const std::string& certificate, const std::string& authority, ByteView bytes,
                     const std::string& hex) {
  const Bio text(BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const Certificate signer(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!signer) throw ProtocolError("it names no certificate");
  if (!authority.empty()) require_issued(*signer, authority);
  long size = 0;
  const Handle<unsigned char, free_bytes> signature(OPENSSL_hexstr2buf(hex.c_str(), &size));
  EVP_PKEY* key = X509_get0_pubkey(signer.get());
  const SigningContext context(EVP_MD_CTX_new());
  const bool good =
      signature && key != nullptr &&
      EVP_DigestVerifyInit(context.get(), nullptr, digest_for(*key), nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), signature.get(), static_cast<std::size_t>(size), raw(bytes),
                       bytes.size()) == 1;
  ERR_clear_error();
  if (!good) throw ProtocolError("the signature is not that of what stands here");
}

}  // namespace fedctl::net
