// Mutual TLS 1.3 (docs/security.md): what one side loads from its files, and what it knows of the
// other side.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/errors.hpp"

using SSL = struct ssl_st;
using SSL_CTX = struct ssl_ctx_st;
using SSL_SESSION = struct ssl_session_st;

namespace fedctl::net {

// PEM files. All but `revoked` are needed.
struct TlsFiles {
  std::string certificate;  // own, and what lies between it and the authority
  std::string key;          // own, readable by its owner alone
  std::string authority;    // certificates that the other side's must descend from
  std::string revoked;      // revocation lists, one of each authority; "": nothing is revoked
  bool empty() const {
    return certificate.empty() && key.empty() && authority.empty() && revoked.empty();
  }
};

// `caller`: a client that calls one with a client's certificate; who it is, speaks_for() tells.
enum class TlsRole { server, client, caller };

// The peer breaks TLS's rules, shows no certificate or one that is not accepted.
class TlsError : public ProtocolError {
  using ProtocolError::ProtocolError;
};

// A client's ticket for a short handshake, kept from connection to connection.
class TlsTicket {
 public:
  void set(SSL_SESSION* session) { session_.reset(session); }
  SSL_SESSION* get() const { return session_.get(); }

 private:
  struct Free {
    void operator()(SSL_SESSION* session) const;
  };
  std::unique_ptr<SSL_SESSION, Free> session_;
};

// The files as they were when they were read.
class TlsContext {
 public:
  // Throws ConfigError naming `where`.key and the file ("server.tls.key").
  TlsContext(const TlsFiles& files, TlsRole role, const std::string& where);

  SSL_CTX* get() const { return context_.get(); }
  TlsRole role() const { return role_; }
  // Throws TlsError if the certificate that this peer has shown would not be accepted now.
  void check_peer(SSL& connection) const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const;
  };
  std::unique_ptr<SSL_CTX, Free> context_;
  TlsRole role_;
};

// The context of files that may be replaced while it is used. Not thread-safe.
class Credentials {
 public:
  // Null if there are no files. Throws ConfigError.
  static std::shared_ptr<Credentials> read(TlsFiles files, TlsRole role, std::string where);
  Credentials(TlsFiles files, TlsRole role, std::string where);

  std::shared_ptr<const TlsContext> context() const { return context_; }
  // Reads the files again if one has changed; false if none has. Throws ConfigError if the new ones
  // cannot be used, once; the old ones stay in force then.
  bool refresh();

 private:
  std::string stamp() const;

  TlsFiles files_;
  TlsRole role_;
  std::string where_, stamp_;
  std::shared_ptr<const TlsContext> context_;
};

// Whether the certificate that the peer has shown names this client.
bool speaks_for(SSL& connection, std::int64_t client);
// The clients it names: "3", "0-7"; "" if it names none.
std::string clients_of_peer(SSL& connection);

}  // namespace fedctl::net
