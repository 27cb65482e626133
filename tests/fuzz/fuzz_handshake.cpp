// Any bytes to a server from somebody who connects, and to a client from what it takes for its
// server, as frames whose headers are right or as they are: both refuse or hang up, and go on.
#include <boost/asio/connect.hpp>
#include <boost/asio/use_future.hpp>
#include <cstdlib>

#include "fuzz/spoken.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

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
