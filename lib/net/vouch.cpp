#include "net/vouch.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "net/client_ids.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net {

using namespace detail;

namespace {

// Of no TLS handshake and no journal.
Bytes marked(ByteView statement) {
  Bytes bytes;
  ByteWriter writer(bytes);
  writer.text("fedctl client");
  writer.raw(statement);
  return bytes;
}

void append(X509& certificate, Bytes& out) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(&certificate, &der);
  const Handle<unsigned char, free_bytes> owner(der);
  if (size > 0) {
    out.insert(out.end(), reinterpret_cast<std::byte*>(der),
               reinterpret_cast<std::byte*>(der) + size);
  }
}

void free_chain(STACK_OF(X509) * chain) { sk_X509_pop_free(chain, X509_free); }
using Chain = Handle<STACK_OF(X509), free_chain>;

// The first one, and the others behind it. Throws ProtocolError.
Certificate certificates_in(ByteView der, STACK_OF(X509) & others) {
  const unsigned char* at = raw(der);
  const unsigned char* const end = at + der.size();
  Certificate first;
  while (at != end) {
    Certificate one(d2i_X509(nullptr, &at, end - at));
    if (!one) {
      ERR_clear_error();
      throw ProtocolError("it names no certificate");
    }
    if (!first) {
      first = std::move(one);
    } else {
      sk_X509_push(&others, one.release());
    }
  }
  if (!first) throw ProtocolError("it names no certificate");
  return first;
}

}  // namespace

std::shared_ptr<Voucher> Voucher::read(const TlsFiles& files, const std::string& where) {
  // As a server reads them: it is clients that are checked.
  std::shared_ptr<Credentials> credentials = Credentials::read(files, TlsRole::server, where);
  return credentials ? std::make_shared<Voucher>(std::move(credentials)) : nullptr;
}

Voucher::Voucher(std::shared_ptr<Credentials> credentials) : credentials_(std::move(credentials)) {}

std::shared_ptr<const TlsContext> Voucher::context() {
  const std::scoped_lock lock(mutex_);
  try {
    credentials_->refresh();
  } catch (const ConfigError&) {
    // Half replaced; the old ones stay in force.
  }
  return credentials_->context();
}

Bytes Voucher::sign(ByteView statement) {
  const std::shared_ptr<const TlsContext> context = this->context();
  Bytes certificates;
  append(*SSL_CTX_get0_certificate(context->get()), certificates);
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context->get(), &chain);
  for (int i = 0; i < sk_X509_num(chain); ++i) append(*sk_X509_value(chain, i), certificates);

  EVP_PKEY* const key = SSL_CTX_get0_privatekey(context->get());
  const Bytes bytes = marked(statement);
  const SigningContext digest(EVP_MD_CTX_new());
  std::size_t size = 0;
  std::vector<unsigned char> signature;
  bool done = EVP_DigestSignInit(digest.get(), nullptr, digest_for(*key), nullptr, key) == 1 &&
              EVP_DigestSign(digest.get(), nullptr, &size, raw(bytes), bytes.size()) == 1;
  signature.resize(size);
  done =
      done && EVP_DigestSign(digest.get(), signature.data(), &size, raw(bytes), bytes.size()) == 1;
  if (!done) throw ConfigError("tls.key: cannot sign: " + openssl_error("failed"));
  signature.resize(size);

  Bytes proof;
  ByteWriter writer(proof);
  writer.varint(certificates.size());
  writer.raw(certificates);
  writer.raw(std::as_bytes(std::span(signature)));
  return proof;
}

void Voucher::check(std::int64_t client, ByteView statement, ByteView proof) {
  const std::string whose = "the proof of client " + std::to_string(client);
  try {
    ByteReader reader(proof);
    const std::uint64_t size = reader.varint();
    if (size > static_cast<std::uint64_t>(limits::kCertificatesBytesMax)) {
      throw ProtocolError("its certificates are too long");
    }
    const Chain others(sk_X509_new_null());
    const Certificate signer = certificates_in(reader.raw(static_cast<std::size_t>(size)), *others);
    const std::string named = clients_of(*signer);
    if (named.empty() || !std::ranges::binary_search(parse_ids(named, "the certificate"), client)) {
      throw ProtocolError("the certificate is one for client " + (named.empty() ? "none" : named));
    }
    const std::shared_ptr<const TlsContext> context = this->context();
    const std::string wrong =
        verify(*SSL_CTX_get_cert_store(context->get()), *signer, others.get(), "ssl_client");
    if (!wrong.empty()) throw ProtocolError("its certificate: " + wrong);
    const ByteView signature = reader.raw(reader.left());
    const Bytes bytes = marked(statement);
    EVP_PKEY* const key = X509_get0_pubkey(signer.get());
    const SigningContext digest(EVP_MD_CTX_new());
    const bool good =
        key != nullptr &&
        EVP_DigestVerifyInit(digest.get(), nullptr, digest_for(*key), nullptr, key) == 1 &&
        EVP_DigestVerify(digest.get(), raw(signature), signature.size(), raw(bytes),
                         bytes.size()) == 1;
    ERR_clear_error();
    if (!good) throw ProtocolError("the signature is not that of what it says");
  } catch (const Error& error) {
    throw ProtocolError(whose + ": " + error.what());
  }
}

}  // namespace fedctl::net
