// Every bound in one place, with its unit in its name. Sizes that come from outside are compared
// with these before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fedctl::limits {

// Wire.
inline constexpr std::size_t kFrameBytesMax = std::size_t{1} << 30;           // after the handshake
inline constexpr std::size_t kHandshakeFrameBytesMax = std::size_t{1} << 16;  // before it is over
inline constexpr std::size_t kChunkBytes = std::size_t{256}
                                           << 10;  // of larger data frames, at a time
inline constexpr std::size_t kControlBytesMax = std::size_t{8}
                                                << 10;  // of a control frame behind it
// Of a data frame, beside so many for each trained parameter: no sane method has larger ones.
inline constexpr std::size_t kBytesPerParameter = 16;
inline constexpr std::size_t kAnswerSlack = std::size_t{1} << 20;
inline constexpr std::size_t kQuestionSlack = std::size_t{64} << 20;  // it may hold a history
inline constexpr std::size_t kTensorsPerMessageMax = 4096;
inline constexpr std::size_t kScalarsPerMessageMax = 1024;
inline constexpr std::size_t kNameBytesMax = 255;
inline constexpr std::size_t kTextBytesMax = std::size_t{1} << 20;
inline constexpr std::size_t kWordsBytesMax = 512;   // of a text for people, and
inline constexpr std::size_t kTicketBytesMax = 256;  // between neighbours, by a peer
inline constexpr std::size_t kRankMax = 8;
inline constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 33;

// Peers and time.
inline constexpr std::int64_t kClientsMax = 1'000'000;
inline constexpr std::int64_t kExamplesMax = 1'000'000'000'000;  // that a client trains on
// Of a value in an update: sums and squares of a million of them are finite as float32.
inline constexpr float kUpdateValueMax = 1e15F;
inline constexpr std::size_t kMailboxDepthMax = 64;   // envelopes a peer may have undelivered
inline constexpr std::size_t kMailboxNewsMax = 4096;  // of all peers, at a client
inline constexpr int kUnaskedMax = 64;                // messages of a client beyond
inline constexpr int kAnswersPerQuestion = 2;         // those that it was asked for
inline constexpr std::size_t kAnswersQueuedMax = 2;   // then a client reads no more questions
inline constexpr std::size_t kRelaysQueuedMax = 4;    // of one neighbour for another one
inline constexpr std::size_t kWaitingBytesMax = std::size_t{16}
                                                << 20;  // the same; one may exceed it
inline constexpr std::size_t kWaitingInMemoryMax = std::size_t{64} << 20;  // of all peers
// Memory for what is as large as a model, times the number of clients; the rest is on disk.
inline constexpr std::size_t kFrameBytesInMemory = std::size_t{16} << 10;  // of one being read
inline constexpr std::size_t kReadBytes = std::size_t{64} << 10;           // at a time, behind it
inline constexpr std::size_t kHeardBytesMax = std::size_t{8} << 20;  // received, and not taken yet
inline constexpr std::size_t kRepliesBytesMax = std::size_t{4} << 20;  // of a round's answers
inline constexpr std::size_t kUnpackedBytesMax = std::size_t{64}
                                                 << 20;  // in a simulation, not taken yet
inline constexpr int kHoldMs = 20;  // between looks whether one may be read from again
inline constexpr std::size_t kStrangersMax = 256;  // connections without a hello yet
inline constexpr std::ptrdiff_t kStrangersPerAddressMax = 128;
inline constexpr std::size_t kStrangersMin = 8;    // of the connections that descriptors are for
inline constexpr int kAcceptPauseMs = 50;          // when there is no descriptor for the next
inline constexpr double kJoinsPerSecond = 0.5;     // of one client,
inline constexpr double kJoinsAtOnce = 20;         // once it has been quiet
inline constexpr double kCallsPerSecond = 0.1;     // by one client to one neighbour,
inline constexpr double kCallsAtOnce = 16;         // once it has been quiet
inline constexpr double kRefusalsPerSecond = 1;    // in the journal,
inline constexpr double kRefusalsAtOnce = 100;     // once it has been quiet
inline constexpr int kCredentialsCheckMs = 1'000;  // between looks at certificate files
inline constexpr double kDeadlineMaxS = 3600;      // of a round, where no number is given,
inline constexpr double kGatheringMaxS = 60;       // and to wait for all clients at its start
inline constexpr double kIdleMaxS = 86400;         // server.idle_s
inline constexpr int kHandshakeHelloMs = 5'000;    // from connect to the client's hello
inline constexpr int kHandshakeReadyMs = 120'000;  // the client loads its model and data
inline constexpr std::size_t kTlsHandshakeBytesMax = std::size_t{1} << 15;
inline constexpr long kTlsSessionsMax = 8192;             // that a short handshake may take up
inline constexpr long kCertificatesBytesMax = 16L << 10;  // that a peer shows
inline constexpr int kReconnectFirstMs = 100;
inline constexpr int kReconnectLongestMs = 5'000;
inline constexpr int kGoodbyeMissedMs = 7'000;  // after a line broke; the client has tried 6 times

// Files.
inline constexpr std::size_t kYamlBytesMax = std::size_t{1} << 20;
inline constexpr std::size_t kYamlDepthMax = 32;
inline constexpr std::size_t kJournalLineBytesMax = std::size_t{1} << 20;
inline constexpr std::size_t kSafetensorsHeaderBytesMax = std::size_t{100} << 20;
inline constexpr std::size_t kJsonlLineBytesMax = std::size_t{16} << 20;
inline constexpr std::size_t kVocabularyMax = std::size_t{1} << 20;

}  // namespace fedctl::limits
