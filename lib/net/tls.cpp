#include "net/tls.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/limits.hpp"
#include "net/client_ids.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net {

using namespace detail;

namespace {

constexpr unsigned char kSessionContext[] = "fedctl";

Bio open_file(const std::string& path, const std::string& key) {
  Bio file(BIO_new_file(path.c_str(), "r"));
  if (!file) {
    ERR_clear_error();
    throw ConfigError(key + ": " + path + ": cannot be read: " + std::strerror(errno),
                      "fedctl ca issue writes certificates and keys");
  }
  return file;
}

template <class T, auto read>
std::vector<T> read_all(const std::string& path, const std::string& key, const char* what) {
  const Bio file = open_file(path, key);
  std::vector<T> found;
  while (true) {
    T next(read(file.get(), nullptr, nullptr, nullptr));
    if (!next) break;
    found.push_back(std::move(next));
  }
  ERR_clear_error();  // the end of the file is one
  if (found.empty()) throw ConfigError(key + ": " + path + ": holds no " + what + " in PEM");
  return found;
}

// Keeps the newest ticket of a connection whose owner wants one.
int keep_ticket(SSL* connection, SSL_SESSION* session) {
  auto* ticket = static_cast<TlsTicket*>(SSL_get_app_data(connection));
  if (ticket == nullptr) return 0;
  ticket->set(session);
  return 1;  // it is ours now
}

}  // namespace

std::string detail::openssl_error(const std::string& otherwise) {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? otherwise : reason;
}

std::vector<Certificate> detail::read_certificates(const std::string& path,
                                                   const std::string& key) {
  return read_all<Certificate, PEM_read_bio_X509>(path, key, "certificate");
}

std::vector<RevocationList> detail::read_revocation_lists(const std::string& path,
                                                          const std::string& key) {
  return read_all<RevocationList, PEM_read_bio_X509_CRL>(path, key, "revocation list");
}

Key detail::read_private_key(const std::string& path, const std::string& key) {
  const Bio file = open_file(path, key);
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw ConfigError(key + ": " + path + ": others than its owner may use this key",
                      "chmod 600 " + path);
  }
  const auto no_password = [](char*, int, int, void*) { return 0; };
  Key found(PEM_read_bio_PrivateKey(file.get(), nullptr, no_password, nullptr));
  if (!found) {
    throw ConfigError(key + ": " + path + ": " + openssl_error("not a private key"),
                      "a PEM file without a password is expected");
  }
  return found;
}

void detail::trust(X509_STORE& store, const std::string& path, const std::string& key) {
  for (const Certificate& trusted : read_certificates(path, key)) {
    X509_STORE_add_cert(&store, trusted.get());
  }
}

std::string detail::verify(X509_STORE& store, X509& certificate, STACK_OF(X509) * chain,
                           const char* purpose) {
  const Handle<X509_STORE_CTX, X509_STORE_CTX_free> check(X509_STORE_CTX_new());
  X509_STORE_CTX_init(check.get(), &store, &certificate, chain);
  X509_STORE_CTX_set_default(check.get(), purpose);
  if (X509_verify_cert(check.get()) == 1) return "";
  ERR_clear_error();
  return X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get()));
}

std::string detail::clients_of(X509& certificate) {
  const Handle<GENERAL_NAMES, GENERAL_NAMES_free> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names) return "";
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const auto* text = name->d.uniformResourceIdentifier;
    const std::string_view uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                               static_cast<std::size_t>(ASN1_STRING_length(text)));
    if (uri.starts_with(kClientsUri)) return std::string(uri.substr(kClientsUri.size()));
  }
  return "";
}

void TlsTicket::Free::operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
void TlsContext::Free::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

TlsContext::TlsContext(const TlsFiles& files, TlsRole role, const std::string& where)
    : role_(role) {
  const auto key_of = [&](const char* name) { return where + '.' + name; };
  const auto need = [&](const std::string& path, const char* name) {
    if (path.empty()) {
      throw ConfigError(key_of(name) + " is missing",
                        where + " needs certificate, key and authority; fedctl ca --help");
    }
  };
  need(files.certificate, "certificate");
  need(files.key, "key");
  need(files.authority, "authority");

  context_.reset(SSL_CTX_new(role == TlsRole::server ? TLS_server_method() : TLS_client_method()));
  SSL_CTX* context = context_.get();
  if (context == nullptr) throw ConfigError("TLS: " + openssl_error("not available"));
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_max_cert_list(context, limits::kCertificatesBytesMax);
  if (role == TlsRole::caller) SSL_CTX_set_purpose(context, X509_PURPOSE_SSL_CLIENT);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);

  const std::vector<Certificate> own = read_certificates(files.certificate, key_of("certificate"));
  const Key key = read_private_key(files.key, key_of("key"));
  SSL_CTX_use_certificate(context, own.front().get());
  for (std::size_t i = 1; i < own.size(); ++i) SSL_CTX_add1_chain_cert(context, own[i].get());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    ERR_clear_error();
    throw ConfigError(key_of("key") + ": " + files.key + ": is not the key of " +
                      files.certificate);
  }
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  trust(*store, files.authority, key_of("authority"));
  if (!files.revoked.empty()) {
    for (const RevocationList& list : read_revocation_lists(files.revoked, key_of("revoked"))) {
      X509_STORE_add_crl(store, list.get());
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  }
  if (role == TlsRole::server) {
    SSL_CTX_set_session_id_context(context, kSessionContext, sizeof kSessionContext - 1);
    SSL_CTX_set_num_tickets(context, 0);  // but see Stream::grant_ticket()
    SSL_CTX_sess_set_cache_size(context, limits::kTlsSessionsMax);
    // The ticket is a number; what it stands for, the peer's certificate among it, stays here.
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  } else {
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, keep_ticket);
  }
  ERR_clear_error();
}

void TlsContext::check_peer(SSL& connection) const {
  const Certificate peer(SSL_get1_peer_certificate(&connection));
  if (!peer) throw TlsError("TLS: the peer has shown no certificate");
  const std::string wrong =
      verify(*SSL_CTX_get_cert_store(context_.get()), *peer, SSL_get_peer_cert_chain(&connection),
             role_ == TlsRole::client ? "ssl_server" : "ssl_client");
  if (!wrong.empty()) throw TlsError("TLS: the peer's certificate: " + wrong);
}

std::shared_ptr<Credentials> Credentials::read(TlsFiles files, TlsRole role, std::string where) {
  if (files.empty()) return nullptr;
  return std::make_shared<Credentials>(std::move(files), role, std::move(where));
}

Credentials::Credentials(TlsFiles files, TlsRole role, std::string where)
    : files_(std::move(files)),
      role_(role),
      where_(std::move(where)),
      stamp_(stamp()),
      context_(std::make_shared<TlsContext>(files_, role_, where_)) {}

std::string Credentials::stamp() const {
  std::string stamp;
  for (const std::string* path :
       {&files_.certificate, &files_.key, &files_.authority, &files_.revoked}) {
    struct stat status {};
    if (::stat(path->c_str(), &status) != 0) status = {};
    for (const auto number :
         {static_cast<std::int64_t>(status.st_ino), static_cast<std::int64_t>(status.st_size),
          static_cast<std::int64_t>(status.st_mtim.tv_sec),
          static_cast<std::int64_t>(status.st_mtim.tv_nsec)}) {
      stamp += std::to_string(number) + ' ';
    }
  }
  return stamp;
}

bool Credentials::refresh() {
  std::string now = stamp();
  if (now == stamp_) return false;
  stamp_ = std::move(now);
  context_ = std::make_shared<TlsContext>(files_, role_, where_);
  return true;
}

std::string clients_of_peer(SSL& connection) {
  const Certificate peer(SSL_get1_peer_certificate(&connection));
  return peer ? clients_of(*peer) : "";
}

bool speaks_for(SSL& connection, std::int64_t client) {
  const std::string named = clients_of_peer(connection);
  return !named.empty() && std::ranges::binary_search(parse_ids(named, "the certificate"), client);
}

}  // namespace fedctl::net
