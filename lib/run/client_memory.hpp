// ClientMemory: what one client keeps between rounds, and between processes if it has a state
// directory (docs/durability.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "methods/method.hpp"
#include "run/run_directory.hpp"
#include "talk/codec_endpoint.hpp"

namespace fedctl::run {

// From the system's entropy, 1 to 2^63 - 1: tells runs and sessions apart, decides nothing.
std::int64_t random_number();

// What stands in DIR/client-ID, or in memory alone if `folder` is "".
class ClientMemory {
 public:
  // Reads the file, if there is one. Throws RunDirectoryError if it is damaged, another client's,
  // or in use by another process.
  ClientMemory(std::string folder, talk::PeerId id);

  // The session's number in this run; a memory of another run is dropped. Throws ProtocolError if
  // this process has taken part in another run already.
  std::int64_t session(std::int64_t run);
  std::int64_t run() const { return run_; }

  // The last answer; exchange 0 if there is none.
  talk::ExchangeId exchange() const { return exchange_; }
  const talk::SharedMessage& answer() const { return answer_; }
  // What stood in the file beside it.
  const Parts& parts() const { return parts_; }
  // With a folder, on the disk when this returns, together with what `gather` returns. Throws
  // RunDirectoryError.
  void keep(talk::ExchangeId exchange, talk::SharedMessage answer,
            const std::function<Parts()>& gather);

  // Bytes both ways that processes before this one had spent, in this run and others; and how to
  // ask what has been spent by now, for the file.
  std::uint64_t bytes_spent() const { return bytes_spent_; }
  void count_bytes(std::function<std::uint64_t()> spent) { spent_ = std::move(spent); }

 private:
  talk::PeerId id_;
  std::string path_;
  std::optional<FileLock> lock_;
  std::int64_t run_ = 0, session_ = 0;
  bool joined_ = false;
  talk::ExchangeId exchange_ = 0;
  talk::SharedMessage answer_;
  Parts parts_;
  std::uint64_t bytes_spent_ = 0;
  std::function<std::uint64_t()> spent_ = [this] { return bytes_spent_; };
};

// The memories that the server's codecs have of each client, among the parts of a checkpoint.
// load_codec_parts() throws WireError on those of another plan.
void add_codec_parts(const talk::CodecEndpoint& server, Parts& parts);
void load_codec_parts(const Parts& parts, talk::CodecEndpoint& server);

// The memories of a client's codecs and method, as parts and back. load_client_parts() throws
// WireError on those of another client.
Parts client_parts(const talk::CodecEndpoint& codecs, const methods::ClientMethod& method);
void load_client_parts(const Parts& parts, talk::CodecEndpoint& codecs,
                       methods::ClientMethod& method);

// A decorator below the codecs: a question that was answered is answered again with the same bytes,
// one that is being worked on is not passed on twice.
class OnceEndpoint final : public talk::Endpoint {
 public:
  // `gather`: what to keep with an answer. `tell`: told of every question, and whether it is passed
  // on or its answer sent again. What they refer to outlives this.
  OnceEndpoint(talk::Endpoint& inner, ClientMemory& memory, std::function<Parts()> gather,
               std::function<void(talk::ExchangeId, bool again)> tell)
      : inner_(inner), memory_(memory), gather_(std::move(gather)), tell_(std::move(tell)) {}

  std::vector<talk::PeerId> peers() const override { return inner_.peers(); }
  TimePoint now() const override { return inner_.now(); }
  void spend(Duration modelled) override { inner_.spend(modelled); }
  talk::Traffic take_sent_between() override { return inner_.take_sent_between(); }
  talk::Task<void> send(talk::PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override;
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override;

 private:
  talk::Endpoint& inner_;
  ClientMemory& memory_;
  std::function<Parts()> gather_;
  std::function<void(talk::ExchangeId, bool)> tell_;
  talk::ExchangeId working_ = 0;
};

}  // namespace fedctl::run
