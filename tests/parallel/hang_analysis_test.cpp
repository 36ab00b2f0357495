#include "parallel/hang_analysis.h"

#include <catch2/catch.hpp>

namespace trireme {

namespace {

using Catch::Contains;

RankReport rank_at(int rank, double quiet, uint64_t issued, double limit = 10) {
    RankReport report;
    report.rank = rank;
    report.host = "node" + std::to_string(rank / 2);
    report.pid = 1000 + rank;
    report.phase = Phase::step;
    report.step = 17;
    report.action = "forward of micro-batch 2";
    report.quiet_seconds = quiet;
    report.limit_seconds = limit;
    report.groups.push_back({"all/0,1,2", {0, 1, 2}, issued, 6});
    return report;
}

void wait_in(RankReport& report, uint64_t ticket, bool is_main = true) {
    report.waits.push_back({"all/0,1,2", Queue::collective, ticket, is_main});
    report.operations.push_back({"all/0,1,2", Queue::collective, ticket, -1, 16, false, 1.0,
                                 "all_reduce sum of 2 F64 'loss and norm'"});
}

void receive_from(RankReport& report, int peer, uint64_t ticket) {
    report.waits.push_back({"all/0,1,2", Queue::receive, ticket, true});
    report.operations.push_back(
        {"all/0,1,2", Queue::receive, ticket, peer, 16, false, 1.0, "recv of 4 F32 'activation'"});
}

}  // namespace

TEST_CASE("a rank that did not arrive is named, with who waits for it and where", "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 12, 7), rank_at(1, 12.5, 6), rank_at(2, 12, 7)};
    wait_in(ranks[0], 7);
    wait_in(ranks[2], 7);
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{1});
    CHECK_THAT(verdict->text, Contains("rank 1 on node0 (pid 1001) did not arrive") &&
                                  Contains("step 17, 'forward of micro-batch 2'") &&
                                  Contains("12.5 s") && Contains("rank 0 waits for it in") &&
                                  Contains("collective 7 (all_reduce sum of 2 F64 'loss") &&
                                  Contains("group 'all' (ranks 0, 1, 2)") &&
                                  Contains("1 more wait"));
}

TEST_CASE("who waits for a waiting rank is followed to the root", "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 12, 7), rank_at(1, 12, 6), rank_at(2, 13, 6)};
    wait_in(ranks[0], 7);
    receive_from(ranks[1], 2, 40);
    ranks[2].answers = false;
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{2});
    CHECK_THAT(verdict->text, Contains("rank 2 on node1 (pid 1002) does not answer") &&
                                  Contains("nothing was heard of it for 13.0 s"));
}

TEST_CASE("long work of a rank that gets on is no hang, however long others wait", "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 100, 7), rank_at(1, 0.2, 6), rank_at(2, 100, 7)};
    wait_in(ranks[0], 7);
    wait_in(ranks[2], 7);
    CHECK_FALSE(find_hang(ranks));
    ranks[1].quiet_seconds = 9.9;  // its own limit counts
    CHECK_FALSE(find_hang(ranks));
    ranks[1].quiet_seconds = 10.1;
    CHECK(find_hang(ranks));
}

TEST_CASE("ranks that wait for one another in a circle are all named", "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 12, 6), rank_at(1, 12, 6), rank_at(2, 12, 7)};
    receive_from(ranks[0], 1, 3);
    receive_from(ranks[1], 0, 5);
    wait_in(ranks[2], 7);
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{0, 1});
    CHECK_THAT(verdict->text, Contains("it waits for rank 1 in receive 3") &&
                                  Contains("it waits for rank 0 in receive 5"));
}

TEST_CASE("a wait of a thread beside the main one counts only while the main one waits for nothing",
          "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 12, 7), rank_at(1, 12, 7), rank_at(2, 12, 6)};
    wait_in(ranks[0], 7, false);
    receive_from(ranks[0], 1, 3);
    wait_in(ranks[1], 7, false);
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{2});
}

TEST_CASE("collectives that differ are found under the lowest number, both sides named",
          "[parallel]") {
    std::vector<RankReport> ranks{rank_at(0, 12, 7), rank_at(1, 12, 7), rank_at(2, 12, 7)};
    for (RankReport& rank : ranks) wait_in(rank, 7);
    CHECK_FALSE(find_mismatch(ranks));
    const auto issue = [](RankReport& rank, uint64_t ticket, const char* what) {
        rank.operations.push_back(
            {"all/0,1,2", Queue::collective, ticket, -1, 20, false, 1.0, what});
    };
    issue(ranks[0], 9, "barrier");
    issue(ranks[1], 9, "all_reduce sum of 5 F32 'a'");
    issue(ranks[1], 8, "all_reduce sum of 5 F32 'a'");
    issue(ranks[2], 8, "all_reduce sum of 6 F32 'a'");
    const auto verdict = find_mismatch(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{1, 2});
    CHECK_THAT(verdict->text,
               Contains("collective 8 of group 'all'") &&
                   Contains("rank 1 on node0 (pid 1001) issued all_reduce sum of 5 F32 'a'") &&
                   Contains("rank 2 on node1 (pid 1002) issued all_reduce sum of 6 F32 'a'"));
}

TEST_CASE("a circle of many ranks is found in a walk over their waits", "[parallel]") {
    constexpr int kRanks = 1500;  // two halves, each in a collective that the other is not in
    std::vector<int> members(kRanks);
    for (int rank = 0; rank < kRanks; ++rank) members[static_cast<size_t>(rank)] = rank;
    std::vector<RankReport> ranks;
    for (int rank = 0; rank < kRanks; ++rank) {
        const bool is_first = rank < kRanks / 2;
        RankReport report = rank_at(rank, 12, 0);
        report.groups = {{"data/0", members, is_first ? 7u : 6u, 6},
                         {"tensor/0", members, is_first ? 6u : 7u, 6}};
        report.waits.push_back({is_first ? "data/0" : "tensor/0", Queue::collective, 7, true});
        ranks.push_back(std::move(report));
    }
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == members);
    CHECK_THAT(verdict->text, Contains("rank 750 waits for it in") &&
                                  Contains("and 749 more wait") &&
                                  Contains("and 1492 more ranks like these"));
}

TEST_CASE("a rank behind a circle is not named with it, one behind two circles names both",
          "[parallel]") {
    std::vector<RankReport> ranks;
    for (int rank = 0; rank < 6; ++rank) {
        ranks.push_back(rank_at(rank, 12, 6));
        ranks.back().groups[0].ranks = {0, 1, 2, 3, 4, 5};
    }
    // 0 waits for 1 and 3; 1 and 2 for each other, 3 and 4 for each other; 5 for 0.
    receive_from(ranks[0], 1, 3);
    receive_from(ranks[0], 3, 4);
    receive_from(ranks[1], 2, 3);
    receive_from(ranks[2], 1, 3);
    receive_from(ranks[3], 4, 3);
    receive_from(ranks[4], 3, 3);
    receive_from(ranks[5], 0, 3);
    for (RankReport& report : ranks) report.quiet_seconds = 1;
    ranks[5].quiet_seconds = 12;
    CHECK_FALSE(find_hang(ranks));  // those of the circles are within their limits
    for (RankReport& report : ranks) report.quiet_seconds = 12;
    const auto verdict = find_hang(ranks);
    REQUIRE(verdict);
    CHECK(verdict->culprits == std::vector<int>{1, 2, 3, 4});
    // A rank that waits for nobody is the reason, whoever else goes in circles.
    receive_from(ranks[4], 5, 9);
    ranks[5].waits.clear();
    CHECK(find_hang(ranks)->culprits == std::vector<int>{1, 2, 5});
}

TEST_CASE("a report survives the way through text", "[parallel]") {
    RankReport report = rank_at(2, 1.25, 7);
    report.phase = Phase::save;
    wait_in(report, 7);
    report.operations[0].is_done = true;
    report.operations[0].peer = 1;
    report.operations[0].what = "a label\twith a tab";
    const RankReport back = parse_rank_report(to_text(report));
    CHECK(back.who() == report.who());
    CHECK(back.where() == "step 17, saving, 'forward of micro-batch 2'");
    CHECK(back.quiet_seconds == 1.25);
    REQUIRE(back.groups.size() == 1);
    CHECK(back.groups[0].ranks == std::vector<int>{0, 1, 2});
    REQUIRE(back.waits.size() == 1);
    CHECK(back.waits[0].is_main);
    REQUIRE(back.operation("all/0,1,2", Queue::collective, 7));
    CHECK(back.operations[0].is_done);
    CHECK(back.operations[0].what == "a label with a tab");
    for (const char* text : {"rank\tx", "nonsense", "wait\t1", "group\t1\t2\tq\tk"}) {
        CHECK_THROWS_AS(parse_rank_report(text), Error);
    }
}

}  // namespace trireme
