#include "run/client_memory.hpp"

#include <cerrno>
#include <filesystem>
#include <random>

#include "base/limits.hpp"

namespace fedctl::run {

namespace fs = std::filesystem;

namespace {
// Names of the file's parts that are the memory's own.
constexpr const char* kAnswer = "answer";
constexpr const char* kCodecs = "codecs";
constexpr const char* kMethod = "method";
constexpr const char* kUnmasked = "unmasked";
const std::string kOfClient = "codecs/";  // and its number
}  // namespace

std::int64_t random_number() {
  std::random_device device;
  const std::uint64_t word = (std::uint64_t{device()} << 32) | device();
  return static_cast<std::int64_t>(std::max<std::uint64_t>(1, word >> 1));
}

ClientMemory::ClientMemory(std::string folder, talk::PeerId id) : id_(id) {
  if (folder.empty()) return;
  path_ = folder + "/client-" + std::to_string(id);
  std::error_code failure;
  fs::create_directories(folder, failure);
  lock_.emplace(path_ + ".lock");
  if (failure || !lock_->open()) {
    if (!failure) failure = {errno, std::system_category()};
    throw RunDirectoryError(folder + ": cannot be written: " + failure.message(),
                            "--state-dir is the folder in which a client keeps its state");
  }
  if (!lock_->held()) {
    throw RunDirectoryError(path_ + ": another process is this client",
                            "stop it, or give this one another --state-dir");
  }
  if (!fs::exists(path_)) return;
  try {
    const wire::Message state = decode_parts(read_file(path_), parts_);
    const wire::Expect fields(state, "client");
    if (const auto owner = fields.integer("client", 0, limits::kClientsMax); owner != id_) {
      throw RunDirectoryError(
          path_ + ": is the state of client " + std::to_string(owner) + ", not of client " +
              std::to_string(id_),
          "put back its own, or remove it: the client begins anew, as one that was never there");
    }
    run_ = fields.integer("run", 0, INT64_MAX);
    session_ = fields.integer("session", 1, INT64_MAX);
    exchange_ = static_cast<talk::ExchangeId>(fields.integer("exchange", 1, INT64_MAX));
    bytes_spent_ = static_cast<std::uint64_t>(fields.integer("bytes", 0, INT64_MAX));
    auto answer = parts_.extract(kAnswer);
    if (answer.empty()) throw WireError("no answer is in it");
    answer_ = wire::share(std::move(answer.mapped()));
  } catch (const RunDirectoryError&) {
    throw;
  } catch (const Error& error) {
    throw RunDirectoryError(path_ + ": damaged: " + error.what(),
                            "remove it: the client begins anew, as one that was never there");
  }
}

std::int64_t ClientMemory::session(std::int64_t run) {
  if (run_ != run) {
    if (joined_) {
      throw ProtocolError("the server has begun another run since this client started",
                          "restart the client");
    }
    exchange_ = 0;
    parts_.clear();
    session_ = 0;
    run_ = run;
  }
  joined_ = true;
  if (session_ == 0) session_ = random_number();
  return session_;
}

void ClientMemory::keep(talk::ExchangeId exchange, talk::SharedMessage answer,
                        const std::function<Parts()>& gather) {
  exchange_ = exchange;
  answer_ = std::move(answer);
  if (path_.empty()) return;
  Parts parts = gather();
  parts.emplace(kAnswer, *answer_);
  const wire::Message state = wire::Message("client")
                                  .with("client", id_)
                                  .with("run", run_)
                                  .with("session", session_)
                                  .with("exchange", static_cast<std::int64_t>(exchange))
                                  .with("bytes", static_cast<std::int64_t>(spent_()));
  write_atomically(path_, encode_parts(state, parts));
}

void add_codec_parts(const talk::CodecEndpoint& server, Parts& parts) {
  for (auto& [peer, memory] : server.save()) {
    parts.emplace(kOfClient + std::to_string(peer), std::move(memory));
  }
}

void load_codec_parts(const Parts& parts, talk::CodecEndpoint& server) {
  for (const auto& [name, part] : parts) {
    if (name.starts_with(kOfClient)) server.load(std::stoll(name.substr(kOfClient.size())), part);
  }
}

Parts client_parts(const talk::CodecEndpoint& codecs, const methods::ClientMethod& method) {
  Parts parts;
  for (auto& [peer, memory] : codecs.save()) {
    if (peer == talk::kServer) parts.emplace(kCodecs, std::move(memory));
  }
  wire::Message state = method.save();
  if (!state.scalars.empty() || !state.tensors.empty()) parts.emplace(kMethod, std::move(state));
  if (method.unmasked() > 0) {
    parts.emplace(kUnmasked, wire::Message(kUnmasked).with("round", method.unmasked()));
  }
  return parts;
}

void load_client_parts(const Parts& parts, talk::CodecEndpoint& codecs,
                       methods::ClientMethod& method) {
  if (const auto found = parts.find(kCodecs); found != parts.end()) {
    codecs.load(talk::kServer, found->second);
  }
  if (const auto found = parts.find(kMethod); found != parts.end()) method.load(found->second);
  if (const auto found = parts.find(kUnmasked); found != parts.end()) {
    method.has_unmasked(wire::Expect(found->second, kUnmasked).integer("round", 1, INT64_MAX));
  }
}

talk::Task<void> OnceEndpoint::send(talk::PeerId to, talk::ExchangeId exchange,
                                    talk::SharedMessage message) {
  if (to != talk::kServer) {
    co_await inner_.send(to, exchange, std::move(message));
    co_return;
  }
  working_ = 0;
  memory_.keep(exchange, message, gather_);
  co_await inner_.send(to, exchange, std::move(message));
}

talk::Task<std::optional<talk::Envelope>> OnceEndpoint::receive(TimePoint until) {
  while (true) {
    std::optional<talk::Envelope> envelope = co_await inner_.receive(until);
    if (envelope && envelope->from != talk::kServer) co_return envelope;
    const bool known = envelope && std::holds_alternative<talk::Again>(envelope->event);
    if (!known && (!envelope || !std::holds_alternative<talk::Message>(envelope->event))) {
      co_return envelope;
    }
    const talk::ExchangeId exchange = envelope->exchange;
    if (exchange == working_) continue;
    if (exchange == memory_.exchange()) {
      tell_(exchange, true);
      talk::SharedMessage again = memory_.answer();
      co_await inner_.send(envelope->from, exchange, std::move(again));
      continue;
    }
    if (known) continue;  // it is not for us to say that we have never seen it
    tell_(exchange, false);
    working_ = exchange;
    co_return envelope;
  }
}

}  // namespace fedctl::run
