// What fuzz targets say over a socket.
#pragma once

#include "net/site.hpp"

namespace fedctl::test {

// { type u8, exchange u8, body bytes u16, body }, each with the header it should have.
inline Bytes frames_of(ByteView in) {
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
inline void speak(asio::ip::tcp::socket& socket, ByteView bytes) {
  boost::system::error_code error;
  asio::write(socket, asio::buffer(bytes.data(), bytes.size()), error);
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  std::array<char, 4096> heard{};
  // The fuzzer's own timer interrupts system calls.
  while (!error || error == asio::error::interrupted) socket.read_some(asio::buffer(heard), error);
}

}  // namespace fedctl::test
