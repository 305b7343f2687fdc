// The pool's rules, one by one. The simulation in tests/sim combines them with faults.
#include "tests/unit/pool/pool_harness.h"

namespace farwarp::pool {
namespace {

class PoolTest : public testing::Test {
 protected:
  // Attaches a node and returns the actions.
  Actions Attach(SessionId session, const NodeInfo& info, const std::vector<HeldLease>& held = {}) {
    return pool_.NodeAttached(now_, session, info, held);
  }
  // Requests, and lets the node confirm at once.
  TellGranted Grant(RequestId id, SessionId session, const Request& request) {
    const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, id, request, 0));
    return Only<TellGranted>(pool_.NodeAnswered(now_, session, prepare.lease, false, Status::Ok()));
  }
  void Pass(Time duration) {
    now_ += duration;
    last_ = pool_.Tick(now_);
  }

  PoolConfig config_;
  CountedCredentials credentials_;
  Pool pool_{config_, credentials_};
  Time now_{1000};
  Actions last_;
};

TEST_F(PoolTest, GrantsOnlyAfterTheNodeConfirmed) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const Actions asked = pool_.Requested(now_, 10, Ask({{4 * kGiB, 0, 30}}), 77);
  const SendPrepare prepare = Only<SendPrepare>(asked);
  EXPECT_EQ(prepare.session, 1u);
  EXPECT_TRUE(All<TellGranted>(asked).empty());
  const Actions confirmed = pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok());
  const TellGranted granted = Only<TellGranted>(confirmed);
  EXPECT_EQ(granted.endpoint, "a:7401");
  EXPECT_EQ(granted.vgpus.at(0).memory_bytes, 4 * kGiB);
  EXPECT_EQ(granted.vgpus.at(0).compute_percent, 30u);
  // On disk before it is told.
  ASSERT_TRUE(std::holds_alternative<SaveLease>(confirmed.at(0)));
  EXPECT_EQ(std::get<SaveLease>(confirmed.at(0)).lease.created_unix_ms, 77);
}

TEST_F(PoolTest, RefusesAtOnceWithoutWaiting) {
  const TellRefused empty = Only<TellRefused>(pool_.Requested(now_, 1, Ask({{}}, Time{0}), 0));
  EXPECT_EQ(empty.kind, RefusalKind::kFull);
  EXPECT_EQ(empty.reason, "no GPU node is attached to the controller");
  Attach(1, MakeNode("a", {8 * kGiB}));
  Grant(2, 1, Ask({{6 * kGiB, 0, 0}}));
  const TellRefused full =
      Only<TellRefused>(pool_.Requested(now_, 3, Ask({{4 * kGiB, 0, 20}}, Time{0}), 0));
  EXPECT_EQ(
      full.reason,
      "a vGPU of 4 GiB and 20 % compute does not fit now; the most free is 2 GiB of memory and "
      "25 % of compute on device 0 of node a");
  const TellRefused large =
      Only<TellRefused>(pool_.Requested(now_, 4, Ask({{16 * kGiB, 0, 1}}, Time{0}), 0));
  EXPECT_NE(large.reason.find("a lease is placed on one node; the largest device is 8 GiB"),
            std::string::npos)
      << large.reason;
}

TEST_F(PoolTest, RefusesNobodyForWantOfNodesRightAfterTheStart) {
  pool_.Restore(now_, {}, {});
  const Actions asked = pool_.Requested(now_, 1, Ask({{}}, Time{0}), 0);
  EXPECT_NE(Only<TellQueued>(asked).reason.find("just started"), std::string::npos);
  EXPECT_TRUE(All<TellRefused>(asked).empty());
  Pass(config_.settling - Time{1});
  EXPECT_TRUE(All<TellRefused>(last_).empty());
  EXPECT_EQ(pool_.NextDeadline(), Time{1000} + config_.settling);
  Pass(Time{1});
  EXPECT_EQ(Only<TellRefused>(last_).reason, "no GPU node is attached to the controller");
  const Actions late = pool_.Requested(now_, 2, Ask({{}}, Time{0}), 0);
  EXPECT_EQ(Only<TellRefused>(late).kind, RefusalKind::kFull) << "from now on at once";
}

TEST_F(PoolTest, TellsWhoWaitsLongerThatTheStartIsOver) {
  pool_.Restore(now_, {}, {});
  pool_.Requested(now_, 1, Ask({{}}), 0);
  Pass(Time{1500});
  ASSERT_EQ(pool_.NextDeadline(), Time{1000} + config_.settling);
  Pass(config_.settling - Time{1500});
  EXPECT_EQ(Only<TellQueued>(last_).reason, "no GPU node is attached to the controller");
}

TEST_F(PoolTest, ServesWhoCameBeforeTheNodes) {
  pool_.Restore(now_, {}, {});
  pool_.Requested(now_, 1, Ask({{4 * kGiB}}, Time{0}), 0);
  now_ += Time{500};
  Attach(1, MakeNode("small", {kGiB}));
  now_ += Time{500};
  EXPECT_EQ(Only<SendPrepare>(Attach(2, MakeNode("large", {8 * kGiB}))).session, 2u);
}

TEST_F(PoolTest, ForgetsANodeThatSaidGoodbyeUnlessALeaseIsLeft) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  pool_.NodeLeft(now_, 1);
  EXPECT_TRUE(pool_.nodes().empty());
  Attach(2, MakeNode("a", {8 * kGiB}));
  Grant(10, 2, Ask({{}}));
  pool_.NodeLeft(now_, 2);
  ASSERT_EQ(pool_.nodes().size(), 1u);
  EXPECT_FALSE(pool_.nodes().at("a").session) << "its lease waits for it";
}

TEST_F(PoolTest, ForgetsALostNodeWithItsLeasesOnRequest) {
  pool_.Restore(now_, {}, {"drained"});
  Attach(1, MakeNode("a", {8 * kGiB}));
  const TellGranted granted = Grant(10, 1, Ask({{}}));
  EXPECT_EQ(pool_.Forget(now_, "a").status().code(), StatusCode::kInvalid) << "it is attached";
  EXPECT_EQ(pool_.Forget(now_, "b").status().code(), StatusCode::kNotFound);
  pool_.NodeDetached(now_, 1);
  const Result<Actions> forgotten = pool_.Forget(now_, "a");
  ASSERT_TRUE(forgotten.ok());
  EXPECT_EQ(Only<EraseLease>(*forgotten).lease, granted.lease);
  EXPECT_EQ(Only<TellEnded>(*forgotten).request, 10u);
  EXPECT_TRUE(pool_.nodes().empty());
  EXPECT_TRUE(pool_.leases().empty());
  const Result<Actions> drain = pool_.Forget(now_, "drained");
  ASSERT_TRUE(drain.ok());
  EXPECT_FALSE(Only<SaveDrain>(*drain).draining);
}

TEST_F(PoolTest, WelcomesOnlyWhoIsAccepted) {
  const Actions accepted = Attach(1, MakeNode("a", {8 * kGiB}));
  EXPECT_TRUE(std::holds_alternative<SendWelcome>(accepted.at(0)));
  NodeInfo other = MakeNode("a", {8 * kGiB});
  other.instance_id = "another";
  other.data_endpoint = "elsewhere:1";
  const Actions refused = Attach(2, other);
  EXPECT_EQ(Only<CloseNode>(refused).kind, CloseKind::kNameInUse);
  EXPECT_TRUE(All<SendWelcome>(refused).empty());
}

TEST_F(PoolTest, WaitsInOrderAndTellsPositionAndReason) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const TellGranted first = Grant(10, 1, Ask({{}}));
  EXPECT_EQ(Only<TellQueued>(pool_.Requested(now_, 11, Ask({{}}), 0)).position, 1u);
  const TellQueued second = Only<TellQueued>(pool_.Requested(now_, 12, Ask({{kGiB, 0, 0}}), 0));
  EXPECT_EQ(second.position, 2u);
  EXPECT_EQ(second.waiting, 2u);
  Pass(Time{100});
  const Actions released = pool_.Released(now_, first.lease);
  const SendRevoke revoke = Only<SendRevoke>(released);
  // The room is free only when the node says so.
  EXPECT_TRUE(All<SendPrepare>(released).empty());
  const Actions freed = pool_.NodeAnswered(now_, 1, revoke.lease, true, Status::Ok());
  EXPECT_EQ(Only<SendPrepare>(freed).vgpus.at(0).memory_bytes, 8 * kGiB);
  // The second moves up; it hears so within the news interval.
  ASSERT_TRUE(pool_.NextDeadline());
  std::vector<TellQueued> news = All<TellQueued>(freed);
  if (news.empty()) {
    Pass(config_.queue_news);
    news = All<TellQueued>(last_);
  }
  ASSERT_EQ(news.size(), 1u);
  EXPECT_EQ(news[0].request, 12u);
  EXPECT_EQ(news[0].position, 1u);
}

TEST_F(PoolTest, LaterRequestsPassOnlyOnNodesThatEarlierOnesCannotUse) {
  Attach(1, MakeNode("big", {16 * kGiB}));
  Attach(2, MakeNode("small", {4 * kGiB}));
  Grant(10, 1, Ask({{8 * kGiB, 0, 1}}));
  pool_.Requested(now_, 11, Ask({{16 * kGiB, 0, 1}}), 0);  // Waits for "big".
  const SendPrepare passed =
      Only<SendPrepare>(pool_.Requested(now_, 12, Ask({{4 * kGiB, 0, 1}}), 0));
  EXPECT_EQ(passed.session, 2u);
  // Would fit on "big" now, but that would starve the earlier one.
  const Actions held_back = pool_.Requested(now_, 13, Ask({{2 * kGiB, 0, 1}}), 0);
  EXPECT_EQ(Only<TellQueued>(held_back).reason, "earlier requests come first");
}

TEST_F(PoolTest, ExpiresWaitingRequestsWithTheReason) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  Grant(10, 1, Ask({{}}));
  pool_.Requested(now_, 11, Ask({{}}, Time{5000}), 0);
  now_ += Time{2000};
  pool_.NodeReported(now_, 1, {});
  EXPECT_EQ(pool_.queue().size(), 1u);
  now_ += Time{3000};
  const Actions expired = pool_.Tick(now_);
  const TellRefused refused = Only<TellRefused>(expired);
  EXPECT_EQ(refused.request, 11u);
  EXPECT_EQ(refused.kind, RefusalKind::kExpired);
  EXPECT_FALSE(refused.reason.empty());
}

TEST_F(PoolTest, ReleasesAfterTheGraceOnceLauncherAndConnectionsAreGone) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{}}), 0));
  pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok());
  pool_.NodeReported(now_, 1, {Held(prepare, 1)});
  EXPECT_TRUE(pool_.HolderGone(now_, 10).empty());
  now_ += Time{2500};
  EXPECT_TRUE(All<SendRevoke>(pool_.NodeReported(now_, 1, {Held(prepare, 1)})).empty());
  EXPECT_TRUE(All<SendRevoke>(pool_.NodeReported(now_, 1, {Held(prepare, 0)})).empty());
  now_ += config_.lease_grace - Time{1};
  EXPECT_TRUE(All<SendRevoke>(pool_.Tick(now_)).empty());
  now_ += Time{1};
  EXPECT_EQ(Only<SendRevoke>(pool_.Tick(now_)).lease, prepare.lease);
}

TEST_F(PoolTest, ALauncherThatIsDoneWaivesTheGraceButNotTheConnections) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{}}), 0));
  pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok());
  pool_.NodeReported(now_, 1, {Held(prepare, 2)});
  EXPECT_TRUE(All<SendRevoke>(pool_.Released(now_, prepare.lease)).empty());
  EXPECT_EQ(All<SendRevoke>(pool_.NodeReported(now_, 1, {Held(prepare, 0)})).size(), 1u);
}

TEST_F(PoolTest, AKilledLauncherInTheQueueLeavesNoTrace) {
  pool_.Requested(now_, 10, Ask({{}}), 0);
  pool_.HolderGone(now_, 10);
  EXPECT_TRUE(pool_.queue().empty());
  EXPECT_TRUE(All<SendPrepare>(Attach(1, MakeNode("a", {8 * kGiB}))).empty());
}

TEST_F(PoolTest, ARefusingNodeIsNotAskedAgainAndNamed) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{}}), 0));
  const Actions refused =
      pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Internal("no worker starts"));
  EXPECT_EQ(Only<TellQueued>(refused).reason, "node a refused: no worker starts");
  const SendPrepare other = Only<SendPrepare>(Attach(2, MakeNode("b", {8 * kGiB})));
  EXPECT_EQ(other.session, 2u);
  EXPECT_NE(other.lease, prepare.lease);
}

TEST_F(PoolTest, ANodeLostWhilePreparingSendsTheRequestBackToItsPlace) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{}}), 0));
  pool_.Requested(now_, 11, Ask({{}}), 0);
  const Actions lost = pool_.NodeDetached(now_, 1);
  EXPECT_EQ(pool_.queue().front().id, 10u);
  // A late answer on the old stream changes nothing.
  EXPECT_TRUE(pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok()).empty());
  // The node did get the command: what it holds is revoked before anything else fits.
  const Actions back = Attach(2, MakeNode("a", {8 * kGiB}), {Held(prepare, 0)});
  EXPECT_EQ(Only<SendRevoke>(back).lease, prepare.lease);
  EXPECT_TRUE(All<SendPrepare>(back).empty());
  const Actions freed = pool_.NodeAnswered(now_, 2, prepare.lease, true, Status::Ok());
  EXPECT_EQ(All<SendPrepare>(freed).size(), 1u);
  EXPECT_EQ(pool_.queue().front().id, 11u);
}

TEST_F(PoolTest, ASilentNodeIsClosedAndItsLeasesEndAfterTheGrace) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const TellGranted granted = Grant(10, 1, Ask({{}}));
  Pass(config_.heartbeat_timeout);
  EXPECT_EQ(Only<CloseNode>(last_).kind, CloseKind::kSilent);
  EXPECT_EQ(pool_.leases().size(), 1u);
  Pass(config_.node_grace);
  EXPECT_EQ(Only<TellEnded>(last_).reason, "node a was lost and did not come back");
  EXPECT_EQ(Only<EraseLease>(last_).lease, granted.lease);
  EXPECT_TRUE(pool_.leases().empty());
}

TEST_F(PoolTest, AnUnansweredCommandCountsAsSilence) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  pool_.Requested(now_, 10, Ask({{}}), 0);
  for (int i = 0; i < 3; ++i) {
    now_ += Time{1000};
    last_ = pool_.NodeReported(now_, 1, {});
    const Actions more = pool_.Tick(now_);
    last_.insert(last_.end(), more.begin(), more.end());
  }
  EXPECT_EQ(Only<CloseNode>(last_).kind, CloseKind::kSilent);
}

TEST_F(PoolTest, AReturningNodeKeepsItsLeasesAndGetsLostOnesAgain) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{4 * kGiB}}), 0));
  pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok());
  pool_.NodeDetached(now_, 1);
  const Actions back = Attach(2, MakeNode("a", {8 * kGiB}), {Held(prepare, 1)});
  EXPECT_EQ(back.size(), 1u) << "nothing but the welcome";
  EXPECT_EQ(Only<SendWelcome>(back).session, 2u);
  pool_.NodeDetached(now_, 2);
  // Restarted: another instance that holds nothing.
  NodeInfo restarted = MakeNode("a", {8 * kGiB});
  restarted.instance_id = "a-2";
  const SendPrepare again = Only<SendPrepare>(Attach(3, restarted));
  EXPECT_EQ(again.lease, prepare.lease);
  EXPECT_EQ(again.secret, prepare.secret);
}

TEST_F(PoolTest, AStatusFromBeforeTheLeaseDoesNotEndIt) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const SendPrepare prepare = Only<SendPrepare>(pool_.Requested(now_, 10, Ask({{4 * kGiB}}), 0));
  pool_.NodeAnswered(now_, 1, prepare.lease, false, Status::Ok());
  pool_.NodeReported(now_, 1, {Held(prepare, 1)});
  pool_.Released(now_, prepare.lease);
  const Actions late = pool_.NodeReported(now_, 1, {});
  EXPECT_TRUE(All<SendRevoke>(late).empty());
  EXPECT_EQ(Only<SendPrepare>(late).lease, prepare.lease);
}

TEST_F(PoolTest, ALeaseWhoseDeviceVanishedEnds) {
  Attach(1, MakeNode("a", {8 * kGiB, 8 * kGiB}));
  Grant(10, 1, Ask({{}, {}}));
  pool_.NodeDetached(now_, 1);
  const Actions back = Attach(2, MakeNode("a", {8 * kGiB}));
  EXPECT_NE(Only<TellEnded>(back).reason.find("without the device"), std::string::npos);
  EXPECT_EQ(pool_.nodes().at("a").use.at(0).vgpus, 0u);
}

TEST_F(PoolTest, TwoNodesCannotShareAName) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  NodeInfo other = MakeNode("a", {8 * kGiB});
  other.instance_id = "x";
  other.data_endpoint = "elsewhere:1";
  const CloseNode refused = Only<CloseNode>(Attach(2, other));
  EXPECT_EQ(refused.session, 2u);
  EXPECT_EQ(refused.kind, CloseKind::kNameInUse);
  // The same daemon on a new connection replaces its old stream.
  const CloseNode replaced = Only<CloseNode>(Attach(3, MakeNode("a", {8 * kGiB})));
  EXPECT_EQ(replaced.session, 1u);
  EXPECT_EQ(replaced.kind, CloseKind::kReplaced);
}

TEST_F(PoolTest, RefusesNodesThatDescribeThemselvesBadly) {
  NodeInfo info = MakeNode("a", {8 * kGiB});
  info.data_endpoint = "host;gpu=x:1";
  EXPECT_EQ(Only<CloseNode>(Attach(1, info)).kind, CloseKind::kInvalid);
  info = MakeNode("a", {8 * kGiB});
  info.data_endpoint = "host:70000";
  EXPECT_EQ(Only<CloseNode>(Attach(2, info)).kind, CloseKind::kInvalid);
  info = MakeNode("a b", {8 * kGiB});
  EXPECT_EQ(Only<CloseNode>(Attach(3, info)).kind, CloseKind::kInvalid);
  info = MakeNode("a", {8 * kGiB, 8 * kGiB});
  info.devices[1].ordinal = 0;
  EXPECT_EQ(Only<CloseNode>(Attach(4, info)).kind, CloseKind::kInvalid);
  EXPECT_TRUE(pool_.nodes().empty());
}

TEST_F(PoolTest, DrainingKeepsLeasesAndTakesNoMore) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  Grant(10, 1, Ask({{kGiB}}));
  const Result<Actions> drained = pool_.SetDraining(now_, "a", true);
  ASSERT_TRUE(drained.ok());
  EXPECT_TRUE(Only<SendDrain>(*drained).draining);
  EXPECT_TRUE(Only<SaveDrain>(*drained).draining);
  EXPECT_EQ(Only<TellRefused>(pool_.Requested(now_, 11, Ask({{kGiB}}, Time{0}), 0)).reason,
            "the nodes that are large enough are draining");
  pool_.Requested(now_, 12, Ask({{kGiB}}), 0);
  const Result<Actions> undrained = pool_.SetDraining(now_, "a", false);
  ASSERT_TRUE(undrained.ok());
  EXPECT_EQ(All<SendPrepare>(*undrained).size(), 1u);
  EXPECT_EQ(pool_.SetDraining(now_, "b", true).status().code(), StatusCode::kNotFound);
}

TEST_F(PoolTest, LabelsChooseNodes) {
  NodeInfo plain = MakeNode("a", {8 * kGiB});
  NodeInfo fast = MakeNode("b", {8 * kGiB});
  fast.labels["link"] = "rdma";
  Attach(1, plain);
  Request request = Ask({{}});
  request.node_labels["link"] = "rdma";
  EXPECT_EQ(Only<TellQueued>(pool_.Requested(now_, 10, request, 0)).reason,
            "no attached node carries the labels that were asked for");
  EXPECT_EQ(Only<SendPrepare>(Attach(2, fast)).session, 2u);
}

TEST_F(PoolTest, ResumingNeedsTheSecretAndReplacesTheHolder) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  const TellGranted granted = Grant(10, 1, Ask({{}}));
  Secret wrong = granted.secret;
  wrong[31] ^= 1;
  EXPECT_EQ(Only<TellRefused>(pool_.Resumed(now_, 11, granted.lease, wrong)).kind,
            RefusalKind::kNotFound);
  const Actions resumed = pool_.Resumed(now_, 12, granted.lease, granted.secret);
  EXPECT_EQ(Only<TellEnded>(resumed).request, 10u);
  EXPECT_EQ(Only<TellGranted>(resumed).request, 12u);
  // The replaced stream's end means nothing any more.
  pool_.HolderGone(now_, 10);
  EXPECT_EQ(pool_.leases().begin()->second.holder, 12u);
}

TEST_F(PoolTest, AfterARestartLeasesWaitForTheirHolders) {
  Attach(1, MakeNode("a", {8 * kGiB}));
  std::vector<Lease> disk;
  std::vector<SendPrepare> prepares;
  for (RequestId id : {10u, 11u, 12u}) {
    prepares.push_back(Only<SendPrepare>(pool_.Requested(now_, id, Ask({{2 * kGiB}}), 0)));
    disk.push_back(
        Only<SaveLease>(pool_.NodeAnswered(now_, 1, prepares.back().lease, false, Status::Ok()))
            .lease);
  }
  Pool restarted(config_, credentials_);
  restarted.Restore(now_, disk, {});
  EXPECT_EQ(restarted.leases().size(), 3u);
  EXPECT_FALSE(
      All<TellGranted>(restarted.Resumed(now_, 20, prepares[0].lease, prepares[0].secret)).empty());
  // The second has a data connection, the third nobody.
  restarted.NodeAttached(now_, 5, MakeNode("a", {8 * kGiB}),
                         {Held(prepares[0], 0), Held(prepares[1], 1), Held(prepares[2], 0)});
  EXPECT_EQ(restarted.nodes().at("a").use.at(0).memory_bytes, 6 * kGiB);
  Actions ended;
  for (Time t{0}; t <= config_.recovery; t += Time{1000}) {
    const Actions some = restarted.NodeReported(
        now_ + t, 5, {Held(prepares[0], 0), Held(prepares[1], 1), Held(prepares[2], 0)});
    ended.insert(ended.end(), some.begin(), some.end());
    if (!All<SendRevoke>(ended).empty()) break;
  }
  EXPECT_EQ(Only<SendRevoke>(ended).lease, prepares[2].lease);
  EXPECT_EQ(Only<EraseLease>(ended).lease, prepares[2].lease);
}

TEST_F(PoolTest, ADrainSurvivesARestart) {
  pool_.Restore(now_, {}, {"a"});
  EXPECT_TRUE(Only<SendDrain>(Attach(1, MakeNode("a", {8 * kGiB}))).draining);
  Pool other(config_, credentials_);
  other.Restore(now_, {}, {"a"});
  EXPECT_TRUE(other.SetDraining(now_, "a", false).ok());
  EXPECT_FALSE(other.SetDraining(now_, "a", false).ok());
}

TEST_F(PoolTest, TheQueueHasALimit) {
  config_.max_waiting = 2;
  Pool pool(config_, credentials_);
  pool.Requested(now_, 1, Ask({{}}), 0);
  pool.Requested(now_, 2, Ask({{}}), 0);
  EXPECT_EQ(Only<TellRefused>(pool.Requested(now_, 3, Ask({{}}), 0)).kind, RefusalKind::kFull);
}

}  // namespace
}  // namespace farwarp::pool
