#include "net/vouch.hpp"

#include <catch2/catch.hpp>

#include "net/authority.hpp"
#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::net;

namespace {

struct Folder {
  std::string path =
      (std::filesystem::temp_directory_path() / ("fedctl-vouch-" + std::to_string(::getpid())))
          .string();
  Folder() { std::filesystem::remove_all(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

std::shared_ptr<Voucher> voucher(const Authority::Issued& issued, const Authority& authority,
                                 const std::string& revoked = "") {
  return Voucher::read({issued.certificate, issued.key, authority.trusted(), revoked}, "tls");
}

}  // namespace

TEST_CASE("what a client has signed is known for its own, and nothing else is", "[net][hostile]") {
  const Folder folder;
  const auto kind = GENERATE(KeyKind::ed25519, KeyKind::p256);
  const Authority authority = Authority::init(folder.path + "/ca", kind, 1);
  const Authority stranger = Authority::init(folder.path + "/stranger", kind, 1);
  const auto one = authority.issue_client("0-2", folder.path, kind, 1);
  const auto two = authority.issue_client("7", folder.path, kind, 1);
  const auto server = authority.issue_server({"127.0.0.1"}, folder.path, kind, 1);
  const auto expired = authority.issue_client("8", folder.path, kind, -1);
  const auto foreign = stranger.issue_client("9", folder.path, kind, 1);
  const std::shared_ptr<Voucher> reader = voucher(two, authority);
  const auto statement = as_bytes_of(std::string_view("these are my keys"));

  const Bytes proof = voucher(one, authority)->sign(statement);
  WARN(proof.size() << " bytes");
  for (const std::int64_t client : {0, 1, 2}) {
    CHECK_NOTHROW(reader->check(client, statement, proof));
  }
  CHECK_NOTHROW(voucher(server, authority)->check(0, statement, proof));
  CHECK_THROWS_WITH(reader->check(3, statement, proof), Catch::Contains("one for client 0-2"));
  CHECK_THROWS_WITH(reader->check(0, statement.first(3), proof), Catch::Contains("signature"));
  const auto refused = [&](const Authority::Issued& issued, const Authority& of,
                           std::int64_t client, const std::string& why) {
    CHECK_THROWS_WITH(reader->check(client, statement, voucher(issued, of)->sign(statement)),
                      Catch::Contains(why));
  };
  refused(server, authority, 0, "one for client none");
  refused(expired, authority, 8, "expired");
  refused(foreign, stranger, 9, "certificate");
  authority.revoke_clients("0");
  CHECK_THROWS_WITH(voucher(two, authority, authority.revoked())->check(0, statement, proof),
                    Catch::Contains("revoked"));
  // Every flipped or missing byte.
  for (std::size_t i = 0; i < proof.size(); ++i) {
    Bytes flipped = proof;
    flipped[i] ^= std::byte{0x10};
    CHECK_THROWS_AS(reader->check(0, statement, flipped), ProtocolError);
    CHECK_THROWS_AS(reader->check(0, statement, ByteView(proof).first(i)), ProtocolError);
  }
}
