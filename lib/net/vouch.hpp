// Voucher: what one client tells another through a server that might change it, signed with the key
// of the client's certificate.
//
// A proof: LEB128 length of the certificates, these in DER (the client's own, then what lies
// between it and the authority), the signature (Ed25519, or ECDSA with SHA-256) to the end.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/bytes.hpp"
#include "net/tls.hpp"

namespace fedctl::net {

class Voucher {
 public:
  // Null if there are no files. Throws ConfigError as Credentials does.
  static std::shared_ptr<Voucher> read(const TlsFiles& files, const std::string& where);
  explicit Voucher(std::shared_ptr<Credentials> credentials);

  // Thread-safe, both; the files are read again if they have changed.
  Bytes sign(ByteView statement);
  // Throws ProtocolError unless a certificate that names this client, and would let it in, has
  // signed.
  void check(std::int64_t client, ByteView statement, ByteView proof);

 private:
  std::shared_ptr<const TlsContext> context();

  std::mutex mutex_;
  std::shared_ptr<Credentials> credentials_;
};

}  // namespace fedctl::net
