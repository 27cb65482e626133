#include "run/client_store.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

using namespace fedctl;
using namespace fedctl::run;

namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() : path(fs::temp_directory_path() / ("fedctl-store-" + std::to_string(::getpid()))) {
    fs::remove_all(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string store() const { return (path / "clients").string(); }
  fs::path path;
};

Parts state(float value, std::size_t size = 100) {
  Parts parts;
  parts.emplace("method", wire::Message("state").with(
                              "residual", Tensor::of(std::vector<float>(size, value), {})));
  return parts;
}

float value_of(const Parts& parts) { return parts.at("method").tensors.at("residual").f32()[0]; }

}  // namespace

TEST_CASE("a client's last state comes back, and none where none was put", "[run][store]") {
  const Folder folder;
  ClientStore store(folder.store());
  CHECK(store.get(7).empty());
  store.put(7, {});
  CHECK(store.file_bytes() == 0);  // nothing is nothing
  CHECK_FALSE(fs::exists(folder.store()));
  store.put(7, state(1));
  store.put(1'000'000, state(2));
  store.put(7, state(3));
  CHECK(value_of(store.get(7)) == 3);
  CHECK(value_of(store.get(1'000'000)) == 2);
  store.put(7, {});
  CHECK(store.get(7).empty());
  CHECK(store.clients() == 1);
}

TEST_CASE("a checkpoint of the store is what was there, not what came later", "[run][store]") {
  const Folder folder;
  wire::Message saved("");
  {
    ClientStore store(folder.store());
    store.put(1, state(1));
    store.put(2, state(2));
    store.put(3, state(3));
    store.put(3, {});
    saved = store.save();
    store.put(1, state(10));
    store.put(4, state(4));
  }
  ClientStore again(folder.store());
  again.load(saved);
  CHECK(again.clients() == 2);
  CHECK(value_of(again.get(1)) == 1);
  CHECK(value_of(again.get(2)) == 2);
  CHECK(again.get(4).empty());
  again.put(4, state(5));
  CHECK(value_of(again.get(4)) == 5);
}

TEST_CASE("a file that is mostly superseded gives way, and old checkpoints hold", "[run][store]") {
  const Folder folder;
  constexpr std::size_t kSize = 1 << 20;  // 4 MiB a state
  ClientStore store(folder.store());
  std::uint64_t longest = 0;
  std::vector<wire::Message> saved;
  for (int round = 0; round < 60; ++round) {
    store.put(round % 2, state(static_cast<float>(round), kSize));
    saved.push_back(store.save());
    longest = std::max(longest, store.file_bytes());
    // The last two checkpoints are the ones that a run directory keeps.
    if (round < 1) continue;
    const auto& before = saved[static_cast<std::size_t>(round) - 1];
    const std::string generation =
        std::to_string(std::get<std::int64_t>(before.scalars.at("generation")));
    CHECK(fs::file_size(folder.store() + "/states-" + generation) >=
          static_cast<std::uintmax_t>(std::get<std::int64_t>(before.scalars.at("length"))));
  }
  CHECK(longest < 20 * 4 * kSize);  // 60 states were put
  ClientStore again(folder.store());
  again.load(saved.back());
  CHECK(value_of(again.get(0)) == 58);
  CHECK(value_of(again.get(1)) == 59);
}

TEST_CASE("a damaged store is named", "[run][store]") {
  const Folder folder;
  wire::Message saved("");
  {
    ClientStore store(folder.store());
    store.put(1, state(1));
    saved = store.save();
  }
  const std::string path = folder.store() + "/states-0";
  SECTION("cut") { fs::resize_file(path, fs::file_size(path) - 1); }
  SECTION("gone") { fs::remove(path); }
  SECTION("a length beyond its end") {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(8);
    file.put('\x7f').put('\x7f').put('\x7f');
  }
  ClientStore again(folder.store());
  CHECK_THROWS_AS(again.load(saved), RunDirectoryError);
}

TEST_CASE("a damaged state is named when it is asked for", "[run][store]") {
  const Folder folder;
  ClientStore store(folder.store());
  store.put(1, state(1));
  const wire::Message saved = store.save();
  {
    std::fstream file(folder.store() + "/states-0",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file.put('\x7f');
  }
  CHECK_THROWS_AS(store.get(1), RunDirectoryError);
}
