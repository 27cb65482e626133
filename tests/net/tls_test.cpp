#include <catch2/catch.hpp>

#include "net/authority.hpp"
#include "net/site.hpp"

using namespace fedctl;
using namespace fedctl::test;

namespace {

struct Folder {
  std::string path =
      (std::filesystem::temp_directory_path() / ("fedctl-tls-" + std::to_string(::getpid())))
          .string();
  Folder() { std::filesystem::remove_all(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a certificate that has expired lets nobody in", "[net][hostile]") {
  const Folder folder;
  const Authority authority = Authority::init(folder.path, KeyKind::ed25519, 1);
  const auto credentials = [&](const Authority::Issued& issued, TlsRole role) {
    return Credentials::read({issued.certificate, issued.key, authority.trusted(), ""}, role,
                             "tls");
  };
  const auto server = authority.issue_server({"127.0.0.1"}, folder.path, KeyKind::ed25519, 1);
  Site site(2, 30, "", credentials(server, TlsRole::server));
  const auto expired = authority.issue_client("0", folder.path, KeyKind::ed25519, -1);
  const auto valid = authority.issue_client("1", folder.path, KeyKind::ed25519, 1);

  Echoers late(site.server->port(), {0}, "right", credentials(expired, TlsRole::client));
  late.join();
  REQUIRE(late.clients[0]->failure());
  CHECK_THROWS_WITH(std::rethrow_exception(late.clients[0]->failure()), Catch::Contains("expired"));
  CHECK(talk::total(site.ledger.take()).up.payload == 0);

  Echoers clients(site.server->port(), {1}, "right", credentials(valid, TlsRole::client));
  CHECK(site.run(ask_all(*site.server, 1, 2, 10)) == 2);
  site.server->finish("done");
  clients.join();
  CHECK(clients.clients[0]->end_status() == "done");
}
