#include "net/stream.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/limits.hpp"
#include "net/detail/openssl.hpp"

namespace fedctl::net {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;

constexpr std::size_t kRecordBytes = 16 << 10;  // of TLS, at most, without its own bytes
using RecordBuffer = std::array<char, kRecordBytes + 1024>;

// What the peer's certificate must name.
void expect_host(SSL& tls, const std::string& host) {
  boost::system::error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) {
    SSL_set1_host(&tls, host.c_str());
    SSL_set_tlsext_host_name(&tls, host.c_str());
  } else {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(&tls), host.c_str());
  }
}

}  // namespace

void Stream::Free::operator()(SSL* connection) const {
  // Not shut down in TLS's own way (a frame says when a run is over), and resumable nevertheless.
  SSL_set_shutdown(connection, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(connection);
}

Stream::Stream(Socket socket, TlsSettings tls)
    : socket_(std::move(socket)), settings_(std::move(tls)) {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
}

Stream::~Stream() = default;

talk::Task<void> Stream::handshake() {
  if (!settings_.context) co_return;
  const bool server = settings_.context->role() == TlsRole::server;
  if (server) {
    // A peer that says nothing costs no TLS state.
    co_await socket_.async_wait(Socket::wait_read, use_awaitable);
    std::array<char, 2> first{};
    boost::system::error_code error;
    const std::size_t seen = socket_.receive(asio::buffer(first), Socket::message_peek, error);
    if (seen == first.size() && first[0] == 'f' && first[1] == 'c') {
      settings_.context = nullptr;
      co_return;
    }
  }
  tls_.reset(SSL_new(settings_.context->get()));
  SSL* tls = tls_.get();
  SSL_set_bio(tls, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(tls), -1);
  if (server) {
    SSL_set_accept_state(tls);
  } else {
    SSL_set_connect_state(tls);
    if (settings_.context->role() == TlsRole::client) expect_host(*tls, settings_.host);
    if (settings_.ticket != nullptr) {
      SSL_set_app_data(tls, settings_.ticket);
      if (settings_.ticket->get() != nullptr) SSL_set_session(tls, settings_.ticket->get());
    }
  }
  while (true) {
    const int done = SSL_do_handshake(tls);
    const int state = SSL_get_error(tls, done);
    const boost::system::error_code error = co_await flush();  // an alert, too
    if (error) throw boost::system::system_error(error);
    if (done == 1) break;
    if (state != SSL_ERROR_WANT_READ) fail();
    if (in_.raw > limits::kTlsHandshakeBytesMax) throw TlsError("TLS: the handshake is too long");
    co_await feed();
  }
  // A short handshake checks nothing of this again.
  if (SSL_session_reused(tls) == 1) settings_.context->check_peer(*tls);
}

void Stream::grant_ticket() {
  if (tls_) SSL_new_session_ticket(tls_.get());
}

void Stream::fail() {
  static const std::string kAlert = " alert ";
  const std::string reason = detail::openssl_error("broken off");
  const auto holds = [&](const char* words) { return reason.find(words) != std::string::npos; };
  if (const auto alert = reason.find(kAlert); alert != std::string::npos) {
    throw TlsError("TLS: the other side refuses: " + reason.substr(alert + kAlert.size()),
                   "fedctl ca issue makes certificates");
  }
  if (holds("verify failed")) {
    const long verified = SSL_get_verify_result(tls_.get());
    throw TlsError(std::string("TLS: the other side's certificate: ") +
                   X509_verify_cert_error_string(verified));
  }
  if (holds("wrong version number")) throw TlsError("TLS: the other side does not speak it");
  throw TlsError("TLS: " + reason);
}

// Hands what has come to OpenSSL; false if nothing has.
bool Stream::feed_now() {
  static thread_local RecordBuffer buffer;
  boost::system::error_code error;
  const std::size_t got = socket_.read_some(asio::buffer(buffer), error);
  if (error == asio::error::would_block) return false;
  if (error) throw boost::system::system_error(error);
  in_.raw += got;
  BIO_write(SSL_get_rbio(tls_.get()), buffer.data(), static_cast<int>(got));
  return true;
}

// Waits for bytes without a buffer.
talk::Task<void> Stream::feed() {
  co_await wait();
  feed_now();
}

talk::Task<void> Stream::wait() { co_await socket_.async_wait(Socket::wait_read, use_awaitable); }

std::size_t Stream::read_now(std::span<std::byte> out) {
  if (!settings_.context) {
    boost::system::error_code error;
    const std::size_t got = socket_.read_some(asio::buffer(out.data(), out.size()), error);
    if (error == asio::error::would_block) return 0;
    if (error) throw boost::system::system_error(error);
    in_.raw += got;
    in_.useful += got;
    return got;
  }
  while (true) {
    std::size_t got = 0;
    const int done = SSL_read_ex(tls_.get(), out.data(), out.size(), &got);
    if (done == 1) {
      in_.useful += got;
      return got;
    }
    switch (SSL_get_error(tls_.get(), done)) {
      case SSL_ERROR_WANT_READ:
        break;
      case SSL_ERROR_ZERO_RETURN:
        throw boost::system::system_error(asio::error::eof);
      default:
        fail();
    }
    if (!feed_now()) return 0;
  }
}

talk::Task<std::size_t> Stream::read_some(std::byte* out, std::size_t count) {
  if (!settings_.context) {
    const std::size_t got =
        co_await socket_.async_read_some(asio::buffer(out, count), use_awaitable);
    in_.raw += got;
    in_.useful += got;
    co_return got;
  }
  while (true) {
    const std::size_t got = read_now({out, count});
    if (got > 0) co_return got;
    co_await wait();
  }
}

// Everything that OpenSSL has to say.
talk::Task<boost::system::error_code> Stream::flush() {
  BIO* waiting = SSL_get_wbio(tls_.get());
  while (BIO_ctrl_pending(waiting) > 0) {
    RecordBuffer buffer;
    const int count = BIO_read(waiting, buffer.data(), static_cast<int>(buffer.size()));
    const auto [error, sent] = co_await asio::async_write(
        socket_, asio::buffer(buffer.data(), static_cast<std::size_t>(count)),
        asio::as_tuple(use_awaitable));
    out_.raw += sent;
    if (error) co_return error;
  }
  co_return boost::system::error_code{};
}

talk::Task<Stream::Written> Stream::write(ByteView head, ByteView rest) {
  if (settings_.context) return write_tls(head, rest);
  return write_plain(head, rest);
}

talk::Task<Stream::Written> Stream::write_plain(ByteView head, ByteView rest) {
  const std::array<asio::const_buffer, 2> both = {asio::buffer(head.data(), head.size()),
                                                  asio::buffer(rest.data(), rest.size())};
  const auto [error, sent] =
      co_await asio::async_write(socket_, both, asio::as_tuple(use_awaitable));
  out_.raw += sent;
  out_.useful += sent;
  co_return Written{error, sent};
}

talk::Task<Stream::Written> Stream::write_tls(ByteView head, ByteView rest) {
  Written written;
  for (const ByteView bytes : {head, rest}) {
    std::size_t at = 0;
    while (!written.error && at < bytes.size()) {
      std::size_t taken = 0;
      if (SSL_write_ex(tls_.get(), bytes.data() + at, std::min(kRecordBytes, bytes.size() - at),
                       &taken) != 1) {
        ERR_clear_error();  // the reader says what it was
        written.error = asio::error::connection_aborted;
        break;
      }
      written.error = co_await flush();
      if (!written.error) at += taken;
    }
    written.sent += at;
  }
  out_.useful += written.sent;
  co_return written;
}

std::uint64_t Stream::Count::untold(std::uint64_t waiting) {
  const std::uint64_t all = raw - useful - waiting;
  const std::uint64_t fresh = all - told;
  told = all;
  return fresh;
}

std::uint64_t Stream::overhead(Way way) {
  if (way == Way::out) return out_.untold(0);
  if (!tls_) return in_.untold(0);
  const auto decrypted = static_cast<std::uint64_t>(SSL_pending(tls_.get()));
  return in_.untold(BIO_ctrl_pending(SSL_get_rbio(tls_.get())) + decrypted);
}

std::uint64_t Stream::last_overhead(Way way) { return (way == Way::in ? in_ : out_).untold(0); }

}  // namespace fedctl::net
