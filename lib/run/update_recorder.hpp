// UpdateRecorder: keeps what a client sends, before any codec, for work on codecs
// (`fedctl simulate --save-updates DIR`).
#pragma once

#include <string>

#include "base/layout.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::run {

// A decorator that writes every message as DIR/exchange-000003-client-000005.safetensors, with "-2"
// behind it for the second one of an exchange. A float32 tensor of layout.size() values is written
// as one a parameter, "delta:NAME", in that parameter's shape; another tensor under its own name,
// and what a method has coded itself as bytes. The metadata hold the message's kind and its scalars
// as text: seed-and-scalar methods may send nothing else.
// Throws DataError if a file cannot be written.
class UpdateRecorder final : public talk::Endpoint {
 public:
  // `inner` and `layout` outlive it; the folder exists.
  UpdateRecorder(talk::Endpoint& inner, talk::PeerId id, const Layout& layout, std::string folder);

  std::vector<talk::PeerId> peers() const override { return inner_.peers(); }
  TimePoint now() const override { return inner_.now(); }
  void spend(Duration modelled) override { inner_.spend(modelled); }
  talk::Traffic take_sent_between() override { return inner_.take_sent_between(); }
  talk::Task<void> send_seen(talk::PeerId to, talk::ExchangeId exchange,
                             talk::SharedMessage message, Seen seen) override;
  talk::Task<void> send(talk::PeerId to, talk::ExchangeId exchange,
                        talk::SharedMessage message) override;
  talk::Task<std::optional<talk::Envelope>> receive(TimePoint until) override {
    return inner_.receive(until);
  }

 private:
  void record(talk::ExchangeId exchange, const talk::Message& message);

  talk::Endpoint& inner_;
  talk::PeerId id_;
  const Layout& layout_;
  std::string folder_;
  talk::ExchangeId exchange_ = 0;  // of the last message
  int messages_ = 0;               // of this exchange
};

}  // namespace fedctl::run
