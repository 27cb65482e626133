// Any bytes to a server from somebody who connects, and to a client from what it takes for its
// server, as frames whose headers are right or as they are: both refuse or hang up, and go on.
#include <boost/asio/connect.hpp>
#include <boost/asio/use_future.hpp>
#include <cstdlib>

#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

// { type u8, exchange u8, body bytes u16, body }, each with the header it should have.
Bytes frames_of(ByteView in) {
  Bytes out;
  while (in.size() >= 4) {
    const auto type = static_cast<wire::FrameType>(std::to_integer<unsigned>(in[0]) % 3);
    const auto exchange = std::to_integer<std::uint64_t>(in[1]);
    const std::size_t size = std::min(in.size() - 4, std::to_integer<std::size_t>(in[2]) +
                                                         256 * std::to_integer<std::size_t>(in[3]));
    Bytes frame(wire::kHeaderBytes);
    ByteWriter(frame).raw(in.subspan(4, size));
    wire::put_header(type, exchange, frame);
    ByteWriter(out).raw(frame);
    in = in.subspan(4 + size);
  }
  return out;
}

// Writes them, hangs up half-way, and reads until the other side has hung up, too.
void speak(asio::ip::tcp::socket& socket, ByteView bytes) {
  boost::system::error_code error;
  asio::write(socket, asio::buffer(bytes.data(), bytes.size()), error);
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  std::array<char, 4096> heard{};
  // The fuzzer's own timer interrupts system calls.
  while (!error || error == asio::error::interrupted) socket.read_some(asio::buffer(heard), error);
}

void to_server(ByteView bytes) {
  static Site site(2, 30, "");
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  boost::system::error_code error;
  socket.connect({asio::ip::make_address("127.0.0.1"), site.server->port()}, error);
  // Not this time: interrupted by the fuzzer's timer, or all ports are waiting for their time to
  // pass, some hundred thousand connections on.
  if (error) return;
  speak(socket, bytes);
  const auto hear = [](TcpServer& server) -> Task<std::size_t> {
    co_return (co_await talk::drain(server)).size();
  };
  site.run(hear(*site.server));
}

void to_client(ByteView bytes) {
  static asio::io_context io;
  static asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  TcpClient::Options options;
  options.server = {"127.0.0.1", acceptor.local_endpoint().port()};
  options.first_retry_s = options.later_retry_s = 0;
  options.prepare = [](const std::string&, std::int64_t) { return Message("ready"); };
  options.notice = [](const std::string&) {};
  static asio::thread_pool pool(1);  // outlives the loop, as what the loop holds uses it
  static ClientLoop loop;
  TcpClient client(std::move(options), loop, pool.get_executor());
  client.start();
  std::future<void> conversation = asio::co_spawn(pool, echo(client), asio::use_future);
  asio::ip::tcp::socket socket(io);
  boost::system::error_code error;
  do {
    acceptor.accept(socket, error);
  } while (error == asio::error::interrupted);
  speak(socket, bytes);
  client.stop();
  conversation.get();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes = std::as_bytes(std::span(data + 1, size - 1));
  const Bytes spoken = (data[0] & 2) != 0 ? Bytes(bytes.begin(), bytes.end()) : frames_of(bytes);
  (data[0] & 1) != 0 ? to_client(spoken) : to_server(spoken);
  return 0;
}
