// Job: an experiment turned into objects, the same on every side: data, shares, model, plan.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/registry.hpp"
#include "run/experiment.hpp"
#include "talk/codec_endpoint.hpp"

namespace fedctl::run {

// What the handshake compares.
struct Digests {
  std::string plan, layout, base, vocabulary, codec;

  talk::Message message() const;  // "ready"
  // Throws ProtocolError naming the first digest that differs, with both values: in full, or as
  // much as tells two apart, to a stranger.
  void require_equal(const talk::Message& ready, bool in_full) const;
};

// Of a model with so many trained parameters: how long a message may be.
std::size_t frame_bytes_max(std::size_t parameters, std::size_t slack);

struct Job {
  Experiment experiment;
  data::Source data;
  std::vector<data::Share> shares;  // by client id
  std::unique_ptr<learn::LearnerPool> learners;
  std::function<learn::AdapterFiles()> adapter_files;
  methods::JobPlan plan;
  Digests digests;

  // What the server evaluates on: the data's own test set, or all clients' held-out examples.
  const data::Dataset& test_set() const;
  std::vector<std::size_t> test_indices() const;

  const methods::MethodEntry& method() const { return methods::method(experiment.method.kind); }
  std::unique_ptr<methods::ServerMethod> make_server() const;
  std::unique_ptr<methods::ClientMethod> make_client() const;
  // Whom a client talks to beside the server, of so many; none: nobody.
  std::function<std::vector<talk::PeerId>(talk::PeerId)> neighbours(std::int64_t clients) const;
  std::unique_ptr<aggregate::Aggregator> make_aggregator() const;
  // What a client's method sees; `client_plan` outlives it, as the job does.
  methods::ClientContext client_context(const methods::JobPlan& client_plan, talk::PeerId id,
                                        learn::LearnerPool& client_learners) const;
  Rng rng() const { return Rng(static_cast<std::uint64_t>(experiment.seed)); }

  // The codec decorator's settings on the server's side and on a client's.
  talk::CodecEndpoint::Options server_codec() const;
  talk::CodecEndpoint::Options client_codec(talk::PeerId id) const;
};

struct JobUse {
  bool own_data = false;  // the data belong to one client alone and are not dealt out
  // Of a server's run, else "": where it may keep a file about a model that it will not evaluate.
  std::string server_folder = {};
};

// Opens data and model, with at most `threads` learners. Throws DataError, ConfigError.
Job make_job(Experiment experiment, std::size_t threads, const JobUse& use = {});

// Cores of this machine; the upper end of --threads.
std::size_t core_count();
// The thread count to use: `wanted`, or one a core if it is 0. Throws ConfigError if it is more
// than the cores.
std::size_t thread_count(std::int64_t wanted);

}  // namespace fedctl::run
