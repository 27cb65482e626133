// A client's word to the others, by the certificates of the files for TLS.
#pragma once

#include <functional>
#include <memory>

#include "methods/vouching.hpp"
#include "net/vouch.hpp"

namespace fedctl::run {

// Neither can be asked of it if there is no voucher. `run`: the number of the run, once it is
// known.
inline methods::Vouching vouching_by(std::shared_ptr<net::Voucher> voucher,
                                     std::function<std::int64_t()> run) {
  if (!voucher) return {};
  const auto in_run = [run = std::move(run)](ByteView statement) {
    Bytes bytes;
    ByteWriter writer(bytes);
    writer.number(run());
    writer.raw(statement);
    return bytes;
  };
  return {[voucher, in_run](ByteView statement) { return voucher->sign(in_run(statement)); },
          [voucher, in_run](std::int64_t client, ByteView statement, ByteView proof) {
            voucher->check(client, in_run(statement), proof);
          }};
}

}  // namespace fedctl::run
