// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {StagedTest, Vm} from "./LedgerTest.sol";

/// @dev Each call that is allowed: the entry that it records, field by field, and the state after it, in full.
contract EntriesTest is StagedTest {
    function test_the_deployment_binds_charter_governor_and_block() public view {
        (address governor, IFederatedLedger.Cid memory first, uint64 blockNumber) = ledger.genesis();
        require(governor == GOVERNOR && ledger.governor() == GOVERNOR, "the deployer governs");
        require(blockNumber == BLOCK, "the block of the deployment");
        requireCid(first, "charter");
        (IFederatedLedger.Cid memory current, uint16 version) = ledger.charter();
        requireCid(current, "charter");
        require(version == 1, "the first charter has version 1");
    }

    function test_genesis_keeps_the_first_charter_and_governor_whatever_follows() public {
        changesCharter("second");
        does(GOVERNOR, abi.encodeCall(ledger.offerGovernance, (SPARE)));
        does(SPARE, abi.encodeCall(ledger.takeGovernance, ()));
        (address governor, IFederatedLedger.Cid memory first,) = ledger.genesis();
        require(governor == GOVERNOR, "the first governor");
        requireCid(first, "charter");
    }

    function test_governance_is_offered_and_taken() public {
        records(
            GOVERNOR,
            abi.encodeCall(ledger.offerGovernance, (SPARE)),
            IFederatedLedger.GovernanceOffered.selector,
            abi.encode(SPARE)
        );
        require(ledger.governor() == GOVERNOR, "an offer alone changes nothing");
        records(
            SPARE,
            abi.encodeCall(ledger.takeGovernance, ()),
            IFederatedLedger.GovernanceTaken.selector,
            abi.encode(SPARE)
        );
        require(ledger.governor() == SPARE, "who took it governs");
    }

    function test_a_new_charter_has_the_next_version_and_counts_nobody() public {
        records(
            GOVERNOR,
            abi.encodeCall(ledger.changeCharter, (cid("second"))),
            IFederatedLedger.CharterChanged.selector,
            abi.encode(2, cid("second"))
        );
        (IFederatedLedger.Cid memory current, uint16 version) = ledger.charter();
        requireCid(current, "second");
        require(version == 2, "the next version");
        accepts(AGGREGATOR_1);
        bytes memory none = abi.encodeWithSelector(IFederatedLedger.QuorumInvalid.selector, 1, 0);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 0, 0, false))), none);
        accepts(SITE_1);
        none = abi.encodeWithSelector(IFederatedLedger.ApprovalsInvalid.selector, 1, 0);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 1, 0, false))), none);
        bytes memory one = abi.encodeWithSelector(IFederatedLedger.ApprovalsInvalid.selector, 2, 1);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 2, 0, true))), one);
    }

    function test_members_get_ids_in_order() public {
        records(
            GOVERNOR,
            abi.encodeCall(ledger.admit, (SPARE, 7, "spare")),
            IFederatedLedger.MemberAdmitted.selector,
            abi.encode(5, SPARE, 7, bytes32("spare"))
        );
        require(ledger.memberCount() == 5, "one more");
        requireMember(SPARE, IFederatedLedger.Member(5, 7, 0, 0, 0, type(uint32).max, 0, 0));
        address[] memory accounts = ledger.accountsOf(1, 5);
        require(accounts.length == 5 && accounts[0] == SITE_1 && accounts[4] == SPARE, "accounts by id");
    }

    function test_accounts_are_listed_as_far_as_there_are_any() public view {
        require(ledger.accountsOf(0, 4).length == 0, "ids begin at 1");
        require(ledger.accountsOf(1, 0).length == 0, "none asked for");
        require(ledger.accountsOf(5, 1).length == 0, "none above the last");
        require(ledger.accountsOf(6, 1).length == 0, "none far above the last");
        require(ledger.accountsOf(1, 3).length == 3, "as many as asked for");
        require(ledger.accountsOf(1, 4).length == 4, "all");
        require(ledger.accountsOf(1, 5).length == 4, "as many as there are");
        require(ledger.accountsOf(4, 65_535).length == 1, "no end above the largest id");
        address[] memory middle = ledger.accountsOf(2, 2);
        require(middle.length == 2 && middle[0] == SITE_2 && middle[1] == AGGREGATOR_1, "from the first on");
    }

    function test_a_member_admitted_during_a_round_acts_after_it() public {
        opens();
        admits(SPARE, PARTICIPANT);
        requireMember(SPARE, IFederatedLedger.Member(5, PARTICIPANT, 0, 0, 1, type(uint32).max, 0, 0));
    }

    function test_roles_are_changed_for_rounds_opened_later() public {
        opens();
        records(
            GOVERNOR,
            abi.encodeCall(ledger.changeRoles, (1, 7)),
            IFederatedLedger.RolesChanged.selector,
            abi.encode(1, 7)
        );
        requireMember(SITE_1, IFederatedLedger.Member(1, 7, PARTICIPANT, 1, 0, type(uint32).max, 1, 1));
        changesRoles(1, 0); // two changes between the same rounds are one
        requireMember(SITE_1, IFederatedLedger.Member(1, 0, PARTICIPANT, 1, 0, type(uint32).max, 1, 1));
        cancels();
        opens();
        changesRoles(1, 5); // what held before round 1 is not kept
        requireMember(SITE_1, IFederatedLedger.Member(1, 5, 0, 2, 1, type(uint32).max, 1, 1));
    }

    function test_a_change_of_roles_moves_the_beginning_of_a_member_only_forward() public {
        opens();
        cancels();
        changesRoles(1, 3); // in round 1
        opens();
        cancels();
        does(GOVERNOR, abi.encodeCall(ledger.replaceAccount, (1, SPARE))); // acts after round 2
        opens();
        changesRoles(1, 1);
        requireMember(SPARE, IFederatedLedger.Member(1, 1, 3, 3, 2, type(uint32).max, 1, 1));
    }

    function test_a_change_of_roles_changes_who_is_counted() public {
        changesRoles(1, AUDITOR); // participants: 2; auditors: 1, 4; either: 1, 2, 4
        requireCounts(1, 2, 3);
        changesRoles(1, AUDITOR | PARTICIPANT);
        requireCounts(2, 2, 3);
        changesRoles(1, AGGREGATOR);
        requireCounts(1, 1, 2);
        changesRoles(1, 0);
        requireCounts(1, 1, 2);
        changesRoles(1, PARTICIPANT);
        requireCounts(2, 1, 3);
    }

    function test_a_change_of_roles_of_a_member_that_has_not_accepted_counts_nothing() public {
        admits(SPARE, PARTICIPANT);
        changesRoles(5, 7);
        requireCounts(2, 1, 3);
        accepts(SPARE);
        requireCounts(3, 2, 4);
        accepts(SPARE); // again, for another key
        requireCounts(3, 2, 4);
    }

    function test_the_governor_replaces_a_lost_account() public {
        opens();
        records(
            GOVERNOR,
            abi.encodeCall(ledger.replaceAccount, (1, SPARE)),
            IFederatedLedger.AccountReplaced.selector,
            abi.encode(1, SPARE)
        );
        requireMember(SITE_1, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 0, 1, 1, 1));
        requireMember(SPARE, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 1, type(uint32).max, 1, 1));
        require(ledger.accountsOf(1, 1)[0] == SPARE, "the present account");
    }

    function test_a_member_moves_to_another_account() public {
        records(
            SITE_1,
            abi.encodeCall(ledger.offerAccount, (SPARE)),
            IFederatedLedger.AccountOffered.selector,
            abi.encode(1, SPARE)
        );
        require(ledger.accountsOf(1, 1)[0] == SITE_1, "an offer alone changes nothing");
        records(
            SPARE, abi.encodeCall(ledger.takeAccount, (1)), IFederatedLedger.AccountTaken.selector, abi.encode(1, SPARE)
        );
        require(ledger.accountsOf(1, 1)[0] == SPARE, "the present account");
        requireMember(SITE_1, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 0, 0, 1, 1));
        opens();
        posts(SPARE);
    }

    function test_an_offer_of_an_account_is_taken_back_with_the_zero_account() public {
        does(SITE_1, abi.encodeCall(ledger.offerAccount, (SPARE)));
        records(
            SITE_1,
            abi.encodeCall(ledger.offerAccount, (address(0))),
            IFederatedLedger.AccountOffered.selector,
            abi.encode(1, address(0))
        );
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, SPARE);
        refuses(SPARE, abi.encodeCall(ledger.takeAccount, (1)), refusal);
    }

    function test_an_account_that_the_governor_gave_ends_an_older_offer() public {
        does(SITE_1, abi.encodeCall(ledger.offerAccount, (SPARE)));
        does(GOVERNOR, abi.encodeCall(ledger.replaceAccount, (1, STRANGER)));
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, SPARE);
        refuses(SPARE, abi.encodeCall(ledger.takeAccount, (1)), refusal);
    }

    function test_the_genesis_model_is_released_as_round_0() public {
        deploy();
        records(
            GOVERNOR,
            abi.encodeCall(ledger.recordGenesis, (IFederatedLedger.Cid("genesis", 0x70))),
            IFederatedLedger.GenesisRecorded.selector,
            abi.encode(bytes32("genesis"), 0x70)
        );
        IFederatedLedger.Round memory genesis;
        genesis.status = IFederatedLedger.Status.Released;
        genesis.model = IFederatedLedger.Cid("genesis", 0x70);
        requireRound(0, genesis);
        (uint32 round, IFederatedLedger.Cid memory model) = ledger.latestModel();
        require(round == 0 && model.digest == "genesis" && model.codec == 0x70, "the newest model");
    }

    function test_a_member_accepts_the_charter() public {
        admits(SPARE, PARTICIPANT);
        records(
            SPARE,
            abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)),
            IFederatedLedger.CharterAccepted.selector,
            abi.encode(5, cid("charter"), AGE_KEY, SPARE)
        );
        requireMember(SPARE, IFederatedLedger.Member(5, PARTICIPANT, 0, 0, 0, type(uint32).max, 1, 1));
    }

    function test_a_signed_acceptance_is_carried_by_anyone_and_used_once() public {
        bytes memory call = signedAcceptance(SITE_1_KEY, cid("charter"), 1);
        records(
            STRANGER, call, IFederatedLedger.CharterAccepted.selector, abi.encode(1, cid("charter"), AGE_KEY, STRANGER)
        );
        requireMember(SITE_1, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 0, type(uint32).max, 1, 2));
        refuses(STRANGER, call, abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 0));
    }

    function test_who_accepts_before_a_round_under_the_new_charter_begins_nothing_anew() public {
        opens(); // under version 1
        changesCharter("second");
        accepts(SITE_1);
        requireMember(SITE_1, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 0, type(uint32).max, 2, 2));
        posts(SITE_1);
    }

    function test_who_accepts_during_a_round_under_the_new_charter_acts_after_it() public {
        changesCharter("second");
        accepts(AGGREGATOR_1);
        accepts(SITE_2);
        opens(termsOf(1, 0, 0, false));
        accepts(SITE_1);
        requireMember(SITE_1, IFederatedLedger.Member(1, PARTICIPANT, 0, 0, 1, type(uint32).max, 2, 2));
    }

    function test_who_accepts_for_the_first_time_during_a_round_acts_after_it() public {
        admits(SPARE, PARTICIPANT);
        opens();
        accepts(SPARE);
        requireMember(SPARE, IFederatedLedger.Member(5, PARTICIPANT, 0, 0, 1, type(uint32).max, 1, 1));
    }

    function test_a_round_is_opened() public {
        IFederatedLedger.Terms memory terms = IFederatedLedger.Terms(700, 80, 2, 3, 5, true);
        records(
            AGGREGATOR_1,
            abi.encodeCall(ledger.open, (cid("plan"), 0, terms)),
            IFederatedLedger.RoundOpened.selector,
            bytes.concat(abi.encode(1, 3, cid("plan"), 0, cid("genesis"), START + 700), abi.encode(80, 2, 3, 5, true))
        );
        IFederatedLedger.Round memory expected;
        expected.status = IFederatedLedger.Status.Open;
        expected.participantsAttest = true;
        expected.approvalsNeeded = 3;
        expected.rejectionsAllowed = 5;
        expected.charterVersion = 1;
        expected.quorum = 2;
        expected.eligible = 2;
        expected.grace = 80;
        requireRound(1, expected);
        require(ledger.latestRound() == 1, "the newest round");
        require(ledger.openingHead() == folded, "the head right after the opening");
        posts(SITE_1);
        require(ledger.openingHead() != folded, "and not a later one");
    }

    function test_a_round_names_the_charter_under_which_it_was_opened() public {
        changesCharter("second");
        accepts(AGGREGATOR_1);
        accepts(SITE_2);
        opens(termsOf(1, 0, 0, false));
        require(ledger.roundOf(1).charterVersion == 2, "the charter in force");
    }

    function test_an_update_is_recorded() public {
        opens();
        records(
            SITE_1,
            abi.encodeCall(ledger.postUpdate, (1, cid("update"), KEY_BLOB, 10)),
            IFederatedLedger.UpdateRecorded.selector,
            abi.encode(1, 1, cid("update"), KEY_BLOB, 10, SITE_1)
        );
        require(ledger.roundOf(1).status == IFederatedLedger.Status.Open, "the round stays open");
    }

    function test_signed_updates_are_recorded_in_their_order_and_carried_by_anyone() public {
        opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](2);
        batch[0] = signed(SITE_2_KEY, 1, folded, cid("of 2"), 20);
        batch[1] = signed(SITE_1_KEY, 1, folded, IFederatedLedger.Cid("of 1", 0x70), type(uint64).max);
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)));
        Vm.Log[] memory logs = lastLogs();
        require(logs.length == 2, "one entry for each");
        requireSame(logs[0].data, abi.encode(1, 2, cid("of 2"), KEY_BLOB, 20, STRANGER), "the first entry");
        bytes memory second = abi.encode(1, 1, batch[1].update, KEY_BLOB, type(uint64).max, STRANGER);
        requireSame(logs[1].data, second, "the second entry");
        require(logs[1].topics[0] == IFederatedLedger.UpdateRecorded.selector, "its kind");
    }

    function test_a_relayed_update_of_a_member_that_has_posted_is_skipped() public {
        opens();
        bytes32 opening = folded;
        posts(SITE_1);
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](3);
        batch[0] = signed(SITE_1_KEY, 1, opening, cid("of 1"), 10);
        batch[1] = signed(SITE_2_KEY, 1, opening, cid("of 2"), 10);
        batch[2] = signed(SITE_2_KEY, 1, opening, cid("of 2, too"), 10);
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)));
        require(lastLogs().length == 1, "only one is new");
        requireSame(lastLogs()[0].data, abi.encode(1, 2, cid("of 2"), KEY_BLOB, 10, STRANGER), "the new one");
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)));
        require(lastLogs().length == 0, "none is new");
        bytes memory again = abi.encodeWithSelector(IFederatedLedger.UpdateAlreadyRecorded.selector, 1, 2);
        refuses(SITE_2, postCall(1), again);
        settles(2);
    }

    function test_an_empty_batch_records_nothing() public {
        opens();
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, new IFederatedLedger.SignedUpdate[](0))));
        require(lastLogs().length == 0, "no entry");
    }

    function test_a_round_that_needs_approvals_is_settled_and_not_released() public {
        opens(termsOf(2, 1, 0, false));
        posts(SITE_1);
        posts(SITE_2);
        IFederatedLedger.Cid memory model = IFederatedLedger.Cid("model", 0x70);
        records(
            AGGREGATOR_1,
            abi.encodeCall(ledger.settle, (1, folded, model, cid("manifest"), 2)),
            IFederatedLedger.RoundSettled.selector,
            abi.encode(1, 3, model, cid("manifest"), 2)
        );
        IFederatedLedger.Round memory round = ledger.roundOf(1);
        require(round.status == IFederatedLedger.Status.Settled, "settled");
        require(round.model.digest == "model" && round.model.codec == 0x70, "with the model");
        (uint32 latest,) = ledger.latestModel();
        require(latest == 0, "not released");
    }

    function test_a_settlement_may_leave_updates_out() public {
        opens(termsOf(1, 1, 0, false));
        posts(SITE_1);
        posts(SITE_2);
        settles(1);
    }

    function test_a_round_that_needs_no_approvals_is_released_at_once() public {
        uint32 round = settled(termsOf(1, 0, 0, false));
        require(ledger.roundOf(round).status == IFederatedLedger.Status.Released, "released");
        (uint32 latest, IFederatedLedger.Cid memory model) = ledger.latestModel();
        require(latest == 1, "the newest model");
        requireCid(model, "model");
    }

    function test_a_round_is_aborted_for_lack_of_quorum() public {
        opens();
        posts(SITE_1);
        later(START + WINDOW + 1);
        records(
            AGGREGATOR_1,
            abortCall(1, IFederatedLedger.AbortReason.Quorum),
            IFederatedLedger.RoundAborted.selector,
            abi.encode(1, 3, IFederatedLedger.AbortReason.Quorum, cid("manifest"), AGGREGATOR_1)
        );
        require(ledger.roundOf(1).status == IFederatedLedger.Status.Aborted, "aborted");
    }

    function test_a_round_is_aborted_by_an_aggregator_at_any_time_and_head() public {
        opens();
        bytes memory call = abortCall(1, IFederatedLedger.AbortReason.Cancelled);
        posts(SITE_1);
        records(
            AGGREGATOR_1,
            call,
            IFederatedLedger.RoundAborted.selector,
            abi.encode(1, 3, IFederatedLedger.AbortReason.Cancelled, NONE, AGGREGATOR_1)
        );
        opens();
        require(ledger.latestRound() == 2, "the next round");
    }

    function test_a_round_that_expired_is_aborted_by_anyone_and_for_no_aggregator() public {
        opens();
        later(START + WINDOW + GRACE + 1);
        records(
            STRANGER,
            abortCall(1, IFederatedLedger.AbortReason.Expired),
            IFederatedLedger.RoundAborted.selector,
            abi.encode(1, 0, IFederatedLedger.AbortReason.Expired, NONE, STRANGER)
        );
        require(ledger.roundOf(1).status == IFederatedLedger.Status.Aborted, "aborted");
    }

    function test_an_approval_releases_a_model() public {
        uint32 round = settled();
        records(
            AUDITOR_1,
            attestCall(round, true),
            IFederatedLedger.AttestationRecorded.selector,
            abi.encode(1, 4, true, cid("report"))
        );
        IFederatedLedger.Round memory after_ = ledger.roundOf(1);
        require(after_.status == IFederatedLedger.Status.Released, "released");
        require(after_.approvals == 1 && after_.rejections == 0, "one approval");
    }

    function test_a_rejection_too_many_holds_a_model_back() public {
        uint32 round = settled(termsOf(1, 1, 1, true));
        attests(SITE_1, round, false);
        require(ledger.roundOf(round).rejections == 1, "one rejection is allowed");
        attests(SITE_2, round, false);
        attests(AUDITOR_1, round, true);
        IFederatedLedger.Round memory after_ = ledger.roundOf(round);
        require(after_.status == IFederatedLedger.Status.Settled, "held back");
        require(after_.approvals == 1 && after_.rejections == 2, "by two rejections");
    }

    function test_as_many_rejections_as_allowed_hold_nothing_back() public {
        uint32 round = settled(termsOf(1, 2, 1, true));
        attests(SITE_1, round, false);
        attests(SITE_2, round, true);
        require(ledger.roundOf(round).status == IFederatedLedger.Status.Settled, "one approval of two");
        attests(AUDITOR_1, round, true);
        require(ledger.roundOf(round).status == IFederatedLedger.Status.Released, "two approvals");
    }

    function test_a_rejection_after_the_release_is_recorded_and_undoes_nothing() public {
        uint32 round = settled(termsOf(1, 1, 0, true));
        attests(SITE_1, round, true);
        attests(SITE_2, round, false);
        attests(AUDITOR_1, round, true);
        IFederatedLedger.Round memory after_ = ledger.roundOf(round);
        require(after_.status == IFederatedLedger.Status.Released, "released");
        require(after_.approvals == 2 && after_.rejections == 1, "all counted");
        opens();
    }

    function test_the_newest_model_is_the_one_of_the_newest_round_whatever_was_released_last() public {
        uint32 first = settled();
        uint32 second = settled();
        require(ledger.latestRound() == second, "both build on the genesis model");
        attests(AUDITOR_1, second, true);
        attests(AUDITOR_1, first, true);
        (uint32 latest,) = ledger.latestModel();
        require(latest == second, "the newest round");
        require(ledger.roundOf(first).status == IFederatedLedger.Status.Released, "the older one is released too");
    }

    function test_a_round_may_build_on_any_released_model() public {
        settled(termsOf(1, 0, 0, false));
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), 1, termsOf(1, 0, 0, false)));
        records(
            AGGREGATOR_1,
            call,
            IFederatedLedger.RoundOpened.selector,
            bytes.concat(
                abi.encode(2, 3, cid("plan"), 1, cid("model"), START + WINDOW), abi.encode(GRACE, 1, 0, 0, false)
            )
        );
        cancels();
        does(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 0, 0, false))));
    }

    function test_an_erasure_is_recorded_by_its_member_or_the_governor() public {
        settled();
        records(
            SITE_1,
            abi.encodeCall(ledger.erase, (1, 1, KEY_BLOB, IFederatedLedger.ErasureReason.Request)),
            IFederatedLedger.ErasureRecorded.selector,
            abi.encode(1, 1, KEY_BLOB, IFederatedLedger.ErasureReason.Request, SITE_1)
        );
        records(
            GOVERNOR,
            abi.encodeCall(ledger.erase, (1, 2, KEY_BLOB, IFederatedLedger.ErasureReason.Mistake)),
            IFederatedLedger.ErasureRecorded.selector,
            abi.encode(1, 2, KEY_BLOB, IFederatedLedger.ErasureReason.Mistake, GOVERNOR)
        );
    }

    function test_an_erasure_for_an_older_round_is_recorded_while_a_newer_one_is_open() public {
        settled();
        opens();
        does(SITE_1, abi.encodeCall(ledger.erase, (1, 1, KEY_BLOB, IFederatedLedger.ErasureReason.Withdrawal)));
    }

    function test_a_grant_is_recorded_by_an_aggregator_or_an_auditor() public {
        settled();
        records(
            AGGREGATOR_1,
            abi.encodeCall(ledger.grant, (4, 1, 1, IFederatedLedger.Cid("keys", 0x70))),
            IFederatedLedger.GrantRecorded.selector,
            abi.encode(3, 4, 1, 1, bytes32("keys"), 0x70)
        );
        settled();
        settled();
        records(
            AUDITOR_1, grantCall(1, 2, 3), IFederatedLedger.GrantRecorded.selector, abi.encode(4, 1, 2, 3, cid("keys"))
        );
        changesRoles(2, 7);
        records(
            SITE_2, grantCall(2, 1, 2), IFederatedLedger.GrantRecorded.selector, abi.encode(2, 2, 1, 2, cid("keys"))
        );
    }

    function test_a_grant_for_older_rounds_is_recorded_while_a_newer_one_is_open() public {
        settled();
        opens();
        does(AUDITOR_1, grantCall(1, 1, 1));
        cancels();
        does(AUDITOR_1, grantCall(1, 1, 2));
    }

    function test_a_grant_is_up_to_the_present_role_and_account_whatever_they_were_in_its_rounds() public {
        settled();
        admits(SPARE, AUDITOR); // it need not accept the charter: it acts in no round
        does(SPARE, grantCall(1, 1, 1));
        moves(AUDITOR_1, 4, STRANGER);
        does(STRANGER, grantCall(1, 1, 1));
        changesRoles(1, AGGREGATOR);
        does(SITE_1, grantCall(4, 1, 1));
    }

    function test_a_grant_changes_nothing_but_the_head() public {
        opens();
        cancels();
        bytes32 opening = ledger.openingHead();
        IFederatedLedger.Round memory round = ledger.roundOf(1);
        IFederatedLedger.Member memory member = ledger.memberOf(AUDITOR_1);
        IFederatedLedger.Member memory to = ledger.memberOf(SITE_1);
        does(AUDITOR_1, grantCall(1, 1, 1));
        requireRound(1, round);
        requireMember(AUDITOR_1, member);
        requireMember(SITE_1, to);
        require(ledger.openingHead() == opening && ledger.latestRound() == 1, "the rounds");
    }

    function test_the_domain_of_signatures_is_that_of_eip_712() public {
        require(ledger.domainSeparator() == domain(), "name, version, chain and address");
        vm.chainId(5);
        require(ledger.domainSeparator() == domain(), "of the present chain");
    }

    function test_the_contract_takes_no_ether() public {
        vm.deal(address(this), 100);
        bytes[] memory calls = new bytes[](6);
        calls[0] = "";
        calls[1] = abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY));
        calls[2] = signedAcceptance(SITE_1_KEY, cid("charter"), 1);
        calls[3] = abi.encodeCall(ledger.head, ());
        calls[4] = abi.encodeCall(ledger.offerGovernance, (SPARE));
        calls[5] = hex"12345678";
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.deal(GOVERNOR, 1);
            vm.prank(GOVERNOR);
            (bool done,) = address(ledger).call{value: 1}(calls[i]);
            require(!done && address(ledger).balance == 0, "ether is refused");
        }
    }

    // ----------------------------------------------------------------- helpers

    function requireCid(IFederatedLedger.Cid memory shown, string memory blob) internal pure {
        requireSame(abi.encode(shown), abi.encode(cid(blob)), "the CID");
    }

    function requireMember(address account, IFederatedLedger.Member memory expected) internal view {
        requireSame(abi.encode(ledger.memberOf(account)), abi.encode(expected), "the member");
    }

    function requireRound(uint32 round, IFederatedLedger.Round memory expected) internal view {
        requireSame(abi.encode(ledger.roundOf(round)), abi.encode(expected), "the round");
    }

    /// @dev What the counts are shows in the refusal of terms that ask for more.
    function requireCounts(uint16 participants, uint16 auditors, uint16 either) internal {
        uint16 more = participants + 1;
        refusesTerms(termsOf(more, 0, 0, false), IFederatedLedger.QuorumInvalid.selector, more, participants);
        more = auditors + 1;
        refusesTerms(termsOf(1, more, 0, false), IFederatedLedger.ApprovalsInvalid.selector, more, auditors);
        more = either + 1;
        refusesTerms(termsOf(1, more, 0, true), IFederatedLedger.ApprovalsInvalid.selector, more, either);
    }

    function refusesTerms(IFederatedLedger.Terms memory terms, bytes4 refusal, uint16 asked, uint16 counted) internal {
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), 0, terms));
        refuses(AGGREGATOR_1, call, abi.encodeWithSelector(refusal, asked, counted));
    }
}
