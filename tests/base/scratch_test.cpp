#include "base/scratch.hpp"

#include <catch2/catch.hpp>
#include <filesystem>

using namespace fedctl;

namespace {

Bytes of(std::size_t count, int value) { return Bytes(count, static_cast<std::byte>(value)); }

Bytes read(const Scratch::Region& region) {
  Bytes bytes(region.size());
  region.read(0, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("regions keep their bytes apart, and a free place is taken again", "[base][scratch]") {
  const auto scratch = Scratch::in("");
  auto a = scratch->take(1000);
  auto b = scratch->take(3000);
  auto c = scratch->take(1000);
  a->write(0, of(1000, 1));
  b->write(0, of(1500, 2));
  b->write(1500, of(1500, 3));
  c->write(0, of(1000, 4));
  CHECK(scratch->taken() == 5000);
  b.reset();
  auto d = scratch->take(2000);
  auto e = scratch->take(1000);
  d->write(0, of(2000, 5));
  e->write(0, of(1000, 6));
  CHECK(read(*a) == of(1000, 1));
  CHECK(read(*c) == of(1000, 4));
  CHECK(read(*d) == of(2000, 5));
  CHECK(read(*e) == of(1000, 6));
  a.reset();
  d.reset();
  e.reset();
  const auto whole = scratch->take(4000);  // what a, b held, joined again
  whole->write(0, of(4000, 7));
  CHECK(read(*c) == of(1000, 4));
  CHECK(scratch->taken() == 5000);
}

TEST_CASE("the file has no name, and a folder that is none is named", "[base][scratch]") {
  const auto folder = std::filesystem::temp_directory_path() / "fedctl-scratch-test";
  std::filesystem::create_directories(folder);
  {
    const auto region = Scratch::in(folder.string())->take(100);
    region->write(0, of(100, 1));
    CHECK(std::filesystem::is_empty(folder));
    CHECK(read(*region) == of(100, 1));  // the region keeps the file
  }
  std::filesystem::remove_all(folder);
  CHECK_THROWS_WITH(Scratch::in(folder.string())->take(1), Catch::Contains(folder.string()));
}
