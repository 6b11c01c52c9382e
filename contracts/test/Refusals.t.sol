// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {StagedTest} from "./LedgerTest.sol";

/// @dev Each call that is not allowed: by which name it is refused, and where exactly the border runs.
contract RefusalsTest is StagedTest {
    IFederatedLedger.AbortReason private constant QUORUM = IFederatedLedger.AbortReason.Quorum;
    IFederatedLedger.AbortReason private constant CANCELLED = IFederatedLedger.AbortReason.Cancelled;
    IFederatedLedger.AbortReason private constant EXPIRED = IFederatedLedger.AbortReason.Expired;
    IFederatedLedger.ErasureReason private constant REQUEST = IFederatedLedger.ErasureReason.Request;
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    // -------------------------------------------------------------- governance

    /// @dev Accounts below and above every other: equality is more than order.
    address[2] private extremes = [address(1), address(type(uint160).max)];

    function test_only_the_governor_governs() public {
        for (uint256 i = 0; i < extremes.length; ++i) {
            address other = extremes[i];
            bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.GovernorOnly.selector, other);
            refuses(other, abi.encodeCall(ledger.offerGovernance, (SITE_1)), refusal);
            refuses(other, abi.encodeCall(ledger.changeCharter, (cid("second"))), refusal);
            refuses(other, abi.encodeCall(ledger.admit, (SPARE, PARTICIPANT, "spare")), refusal);
            refuses(other, abi.encodeCall(ledger.changeRoles, (1, 7)), refusal);
            refuses(other, abi.encodeCall(ledger.replaceAccount, (2, SPARE)), refusal);
            refuses(other, abi.encodeCall(ledger.recordGenesis, (cid("genesis"))), refusal);
        }
    }

    function test_an_offer_is_nobody_elses() public {
        settled();
        does(GOVERNOR, abi.encodeCall(ledger.offerGovernance, (SPARE)));
        does(SITE_1, abi.encodeCall(ledger.offerAccount, (SPARE)));
        for (uint256 i = 0; i < extremes.length; ++i) {
            address other = extremes[i];
            bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.GovernanceNotOffered.selector, other);
            refuses(other, abi.encodeCall(ledger.takeGovernance, ()), refusal);
            refusal = abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, other);
            refuses(other, abi.encodeCall(ledger.takeAccount, (1)), refusal);
            refusal = abi.encodeWithSelector(IFederatedLedger.OwnerOrGovernorOnly.selector, other);
            refuses(other, abi.encodeCall(ledger.erase, (1, 1, KEY_BLOB, REQUEST)), refusal);
        }
    }

    function test_a_past_account_is_not_the_present_one_whatever_their_order() public {
        for (uint256 i = 0; i < extremes.length; ++i) {
            address past = i == 0 ? SITE_1 : SITE_2;
            uint16 member = uint16(i + 1);
            moves(past, member, extremes[i]);
            bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AccountOutdated.selector, member, 0);
            refuses(past, abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)), refusal);
            refuses(past, grantCall(4, 1, 1), refusal);
        }
    }

    function test_governance_is_taken_only_by_the_one_to_whom_it_was_offered_last_and_once() public {
        bytes memory take = abi.encodeCall(ledger.takeGovernance, ());
        refuses(SPARE, take, abi.encodeWithSelector(IFederatedLedger.GovernanceNotOffered.selector, SPARE));
        does(GOVERNOR, abi.encodeCall(ledger.offerGovernance, (STRANGER)));
        does(GOVERNOR, abi.encodeCall(ledger.offerGovernance, (SPARE)));
        refuses(STRANGER, take, abi.encodeWithSelector(IFederatedLedger.GovernanceNotOffered.selector, STRANGER));
        does(SPARE, take);
        refuses(SPARE, take, abi.encodeWithSelector(IFederatedLedger.GovernanceNotOffered.selector, SPARE));
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.GovernorOnly.selector, GOVERNOR);
        refuses(GOVERNOR, abi.encodeCall(ledger.changeCharter, (cid("second"))), refusal);
    }

    function test_a_member_needs_an_account_of_its_own() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberAccountZero.selector);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (address(0), PARTICIPANT, "zero")), refusal);
        refuses(GOVERNOR, abi.encodeCall(ledger.replaceAccount, (1, address(0))), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.MemberAccountTaken.selector, SITE_1);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (SITE_1, PARTICIPANT, "again")), refusal);
        refuses(GOVERNOR, abi.encodeCall(ledger.replaceAccount, (2, SITE_1)), refusal);
        refuses(SITE_2, abi.encodeCall(ledger.offerAccount, (SITE_1)), refusal);
        moves(SITE_1, 1, SPARE);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (SITE_1, PARTICIPANT, "a past account")), refusal);
        does(SITE_2, abi.encodeCall(ledger.offerAccount, (STRANGER)));
        admits(STRANGER, AUDITOR);
        refusal = abi.encodeWithSelector(IFederatedLedger.MemberAccountTaken.selector, STRANGER);
        refuses(STRANGER, abi.encodeCall(ledger.takeAccount, (2)), refusal);
    }

    function test_roles_are_within_the_three_bits() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberRolesInvalid.selector, 0);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (SPARE, 0, "none")), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.MemberRolesInvalid.selector, 8);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (SPARE, 8, "a fourth")), refusal);
        refuses(GOVERNOR, abi.encodeCall(ledger.changeRoles, (1, 8)), refusal);
        does(GOVERNOR, abi.encodeCall(ledger.changeRoles, (1, 7)));
        does(GOVERNOR, abi.encodeCall(ledger.changeRoles, (1, 0)));
    }

    function test_a_member_has_a_name() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberNameMissing.selector);
        refuses(GOVERNOR, abi.encodeCall(ledger.admit, (SPARE, PARTICIPANT, "")), refusal);
    }

    function test_a_member_that_is_not_there_is_not_changed() public {
        for (uint16 id = 0; id <= 5; id += 5) {
            bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberIdUnknown.selector, id);
            refuses(GOVERNOR, abi.encodeCall(ledger.changeRoles, (id, 1)), refusal);
            refuses(GOVERNOR, abi.encodeCall(ledger.replaceAccount, (id, SPARE)), refusal);
            refuses(GOVERNOR, abi.encodeCall(ledger.erase, (1, id, KEY_BLOB, REQUEST)), refusal);
            refuses(AUDITOR_1, grantCall(id, 1, 1), refusal);
        }
    }

    function test_there_is_one_genesis_model() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.GenesisAlreadyRecorded.selector);
        refuses(GOVERNOR, abi.encodeCall(ledger.recordGenesis, (cid("another"))), refusal);
    }

    // -------------------------------------------------------------------- CIDs

    function test_a_cid_is_raw_or_dag_pb_and_has_a_digest() public {
        refusesCid("", 0x55);
        refusesCid("", 0);
        refusesCid("blob", 0);
        refusesCid("blob", 0x54);
        refusesCid("blob", 0x56);
        refusesCid("blob", 0x6f);
        refusesCid("blob", 0x71);
        refusesCid("blob", 0xff);
    }

    function refusesCid(bytes32 digest, uint8 codec) private {
        IFederatedLedger.Cid memory bad = IFederatedLedger.Cid(digest, codec);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.CidInvalid.selector, digest, codec);
        try vm.deployCode("FederatedLedger.sol:FederatedLedger", abi.encode(bad)) {
            revert("no ledger is deployed with it");
        } catch {}
        refuses(GOVERNOR, abi.encodeCall(ledger.changeCharter, (bad)), refusal);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (bad, 0, termsOf(1, 1, 0, false))), refusal);
        uint32 round = opens(termsOf(1, 1, 0, true));
        refuses(SITE_1, abi.encodeCall(ledger.postUpdate, (round, bad, KEY_BLOB, 1)), refusal);
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, round, folded, bad, 1);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)), refusal);
        posts(SITE_1);
        posts(SITE_2);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.settle, (round, folded, bad, cid("manifest"), 2)), refusal);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.settle, (round, folded, cid("model"), bad, 2)), refusal);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.abort, (round, folded, QUORUM, bad)), refusal);
        settles(2);
        refuses(SITE_1, abi.encodeCall(ledger.attest, (round, true, bad)), refusal);
        refuses(AUDITOR_1, abi.encodeCall(ledger.grant, (1, round, round, bad)), refusal);
        deploy();
        refuses(GOVERNOR, abi.encodeCall(ledger.recordGenesis, (bad)), refusal);
        setUp();
    }

    function test_an_abort_without_lack_of_quorum_has_no_manifest() public {
        opens();
        IFederatedLedger.Cid[3] memory some =
            [cid("manifest"), IFederatedLedger.Cid("manifest", 0), IFederatedLedger.Cid("", 0x55)];
        later(START + WINDOW + GRACE + 1);
        for (uint256 i = 0; i < some.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.CidInvalid.selector, some[i]);
            refuses(AGGREGATOR_1, abi.encodeCall(ledger.abort, (1, folded, CANCELLED, some[i])), refusal);
            refuses(AGGREGATOR_1, abi.encodeCall(ledger.abort, (1, folded, EXPIRED, some[i])), refusal);
        }
    }

    // -------------------------------------------------------------- membership

    function test_a_stranger_is_nobody() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberUnknown.selector, STRANGER);
        refuses(STRANGER, abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)), refusal);
        refuses(STRANGER, abi.encodeCall(ledger.offerAccount, (SPARE)), refusal);
        refuses(STRANGER, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 1, 0, false))), refusal);
        opens();
        refuses(STRANGER, postCall(1), refusal);
        posts(SITE_1);
        posts(SITE_2);
        refuses(STRANGER, settleCall(1, 2), refusal);
        refuses(STRANGER, abortCall(1, QUORUM), refusal);
        refuses(STRANGER, abortCall(1, CANCELLED), refusal);
        settles(2);
        refuses(STRANGER, attestCall(1, true), refusal);
        refuses(STRANGER, grantCall(1, 1, 1), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.MemberUnknown.selector, GOVERNOR);
        refuses(GOVERNOR, grantCall(1, 1, 1), refusal);
    }

    function test_each_call_needs_its_role() public {
        IFederatedLedger.Terms memory terms = termsOf(1, 1, 0, false);
        refusesRole(SITE_1, 1, AGGREGATOR, abi.encodeCall(ledger.open, (cid("plan"), 0, terms)));
        opens();
        refusesRole(AGGREGATOR_1, 3, PARTICIPANT, postCall(1));
        refusesRole(AUDITOR_1, 4, PARTICIPANT, postCall(1));
        posts(SITE_1);
        posts(SITE_2);
        refusesRole(SITE_1, 1, AGGREGATOR, settleCall(1, 2));
        refusesRole(SITE_1, 1, AGGREGATOR, abortCall(1, QUORUM));
        refusesRole(AUDITOR_1, 4, AGGREGATOR, abortCall(1, CANCELLED));
        settles(2);
        refusesRole(SITE_1, 1, AUDITOR, attestCall(1, true));
        refusesRole(AGGREGATOR_1, 3, AUDITOR, attestCall(1, true));
        refusesRole(SITE_1, 1, AGGREGATOR | AUDITOR, grantCall(4, 1, 1));
        settled(termsOf(1, 1, 0, true));
        refusesRole(AGGREGATOR_1, 3, AUDITOR | PARTICIPANT, attestCall(2, true));
    }

    function refusesRole(address sender, uint16 member, uint8 role, bytes memory call) private {
        refuses(sender, call, abi.encodeWithSelector(IFederatedLedger.MemberRoleMissing.selector, member, role));
    }

    function test_a_change_of_roles_acts_on_later_rounds_only() public {
        opens();
        changesRoles(1, 0);
        changesRoles(3, PARTICIPANT);
        changesRoles(4, PARTICIPANT);
        posts(SITE_1); // still has the role of the round's opening
        refusesRole(AGGREGATOR_1, 3, PARTICIPANT, postCall(1));
        posts(SITE_2);
        settles(2);
        attests(AUDITOR_1, 1, true);
        IFederatedLedger.Terms memory terms = termsOf(1, 1, 0, false);
        refusesRole(AGGREGATOR_1, 3, AGGREGATOR, abi.encodeCall(ledger.open, (cid("plan"), 0, terms)));
        changesRoles(3, AGGREGATOR); // again between the same rounds
        changesRoles(4, AUDITOR);
        opens();
        refusesRole(SITE_1, 1, PARTICIPANT, postCall(2));
    }

    function test_roles_before_the_last_change_but_one_are_not_kept_and_give_no_right() public {
        uint32 first = settled();
        changesRoles(4, 0);
        admits(SPARE, AUDITOR);
        accepts(SPARE);
        opens();
        cancels();
        changesRoles(4, AUDITOR);
        refuses(
            AUDITOR_1,
            attestCall(first, true),
            abi.encodeWithSelector(IFederatedLedger.MemberRoleMissing.selector, 4, AUDITOR)
        );
        opens();
        cancels();
        changesRoles(4, PARTICIPANT);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 4, first);
        refuses(AUDITOR_1, attestCall(first, true), refusal);
    }

    function test_who_has_not_accepted_the_charter_does_not_act() public {
        admits(SPARE, 7);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.CharterNotAccepted.selector, 5, 1);
        refuses(SPARE, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 1, 0, false))), refusal);
        opens();
        refuses(SPARE, postCall(1), refusal);
        cancels();
        changesCharter("second");
        refusal = abi.encodeWithSelector(IFederatedLedger.CharterNotAccepted.selector, 3, 2);
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 1, 0, false))), refusal);
    }

    function test_who_came_during_a_round_does_not_act_in_it_nor_before() public {
        settled();
        opens();
        admits(SPARE, 7);
        accepts(SPARE);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 5, 2);
        refuses(SPARE, postCall(2), refusal);
        refuses(SPARE, abortCall(2, CANCELLED), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 5, 1);
        refuses(SPARE, attestCall(1, true), refusal);
        cancels();
        opens();
        posts(SPARE);
    }

    function test_who_lets_a_round_pass_without_accepting_its_charter_does_not_act_in_it() public {
        uint32 first = settled();
        changesCharter("second");
        accepts(AGGREGATOR_1);
        accepts(SITE_2);
        opens(termsOf(1, 0, 0, false));
        refuses(SITE_1, postCall(2), abi.encodeWithSelector(IFederatedLedger.CharterNotAccepted.selector, 1, 2));
        accepts(SITE_1);
        refuses(SITE_1, postCall(2), abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 1, 2));
        accepts(AUDITOR_1);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 4, first);
        refuses(AUDITOR_1, attestCall(first, true), refusal);
    }

    function test_a_past_account_acts_up_to_the_round_in_which_it_was_replaced() public {
        opens();
        moves(SITE_1, 1, SPARE);
        bytes memory early = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 1, 1);
        refuses(SPARE, postCall(1), early);
        posts(SITE_1);
        cancels();
        opens();
        bytes memory outdated = abi.encodeWithSelector(IFederatedLedger.AccountOutdated.selector, 1, 1);
        refuses(SITE_1, postCall(2), outdated);
        refuses(SITE_1, abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)), outdated);
        refuses(SITE_1, abi.encodeCall(ledger.offerAccount, (STRANGER)), outdated);
        refuses(STRANGER, signedAcceptance(SITE_1_KEY, cid("charter"), 1), outdated);
        posts(SPARE);
        bytes memory again = abi.encodeWithSelector(IFederatedLedger.UpdateAlreadyRecorded.selector, 2, 1);
        refuses(SPARE, postCall(2), again);
    }

    function test_a_member_has_one_update_and_one_verdict_whatever_its_account() public {
        uint32 round = settled(termsOf(1, 3, 0, true));
        attests(SITE_1, round, true);
        moves(SITE_1, 1, SPARE);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.MemberNotEligible.selector, 1, 1);
        refuses(SPARE, attestCall(round, true), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.AttestationAlreadyRecorded.selector, 1, 1);
        refuses(SITE_1, attestCall(round, false), refusal);
    }

    function test_an_acceptance_names_the_charter_in_force_and_a_key() public {
        bytes32 charter = cid("charter").digest;
        bytes memory refusal;
        for (uint256 i = 0; i < 2; ++i) {
            bytes32 digest = bytes32(i == 0 ? uint256(charter) - 1 : uint256(charter) + 1);
            IFederatedLedger.Cid memory other = IFederatedLedger.Cid(digest, 0x55);
            refusal = abi.encodeWithSelector(IFederatedLedger.CharterOutdated.selector, digest, charter);
            refuses(SITE_1, abi.encodeCall(ledger.accept, (other, AGE_KEY)), refusal);
            refuses(STRANGER, signedAcceptance(SITE_1_KEY, other, 1), refusal);
        }
        refusal = abi.encodeWithSelector(IFederatedLedger.CharterOutdated.selector, charter, charter);
        refuses(SITE_1, abi.encodeCall(ledger.accept, (IFederatedLedger.Cid(charter, 0x54), AGE_KEY)), refusal);
        refuses(SITE_1, abi.encodeCall(ledger.accept, (IFederatedLedger.Cid(charter, 0x70), AGE_KEY)), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.AgeKeyMissing.selector);
        refuses(SITE_1, abi.encodeCall(ledger.accept, (cid("charter"), "")), refusal);
    }

    function test_an_account_is_taken_only_by_the_one_to_which_it_was_offered() public {
        bytes memory take = abi.encodeCall(ledger.takeAccount, (1));
        refuses(SPARE, take, abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, SPARE));
        does(SITE_1, abi.encodeCall(ledger.offerAccount, (STRANGER)));
        refuses(SPARE, take, abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, SPARE));
        bytes memory other = abi.encodeCall(ledger.takeAccount, (2));
        refuses(STRANGER, other, abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 2, STRANGER));
        does(SITE_1, abi.encodeCall(ledger.offerAccount, (SPARE)));
        refuses(STRANGER, take, abi.encodeWithSelector(IFederatedLedger.AccountNotOffered.selector, 1, STRANGER));
        does(SPARE, take);
    }

    // ------------------------------------------------------------------ rounds

    function test_terms_that_cannot_be_met_are_refused() public {
        IFederatedLedger.Terms memory terms = termsOf(0, 0, 0, false);
        refusesTerms(terms, abi.encodeWithSelector(IFederatedLedger.QuorumInvalid.selector, 0, 2));
        terms = termsOf(3, 0, 0, false);
        refusesTerms(terms, abi.encodeWithSelector(IFederatedLedger.QuorumInvalid.selector, 3, 2));
        terms = termsOf(2, 2, 0, false);
        refusesTerms(terms, abi.encodeWithSelector(IFederatedLedger.ApprovalsInvalid.selector, 2, 1));
        terms = termsOf(2, 4, 0, true);
        refusesTerms(terms, abi.encodeWithSelector(IFederatedLedger.ApprovalsInvalid.selector, 4, 3));
        terms = termsOf(2, 3, 0, true);
        terms.window = 0;
        refusesTerms(terms, abi.encodeWithSelector(IFederatedLedger.WindowInvalid.selector));
        terms.window = 1;
        terms.grace = 0;
        opens(terms);
    }

    function refusesTerms(IFederatedLedger.Terms memory terms, bytes memory refusal) private {
        refuses(AGGREGATOR_1, abi.encodeCall(ledger.open, (cid("plan"), 0, terms)), refusal);
    }

    function test_no_round_builds_on_a_model_that_is_not_released() public {
        refusesBase(1);
        uint32 waiting = settled();
        refusesBase(waiting);
        attests(AUDITOR_1, waiting, false);
        refusesBase(waiting);
        opens();
        cancels();
        refusesBase(2);
        refusesBase(3);
        deploy();
        admits(AGGREGATOR_1, AGGREGATOR | PARTICIPANT);
        accepts(AGGREGATOR_1);
        refusesBase(0); // no genesis model yet
    }

    function refusesBase(uint32 base) private {
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), base, termsOf(1, 0, 0, false)));
        refuses(AGGREGATOR_1, call, abi.encodeWithSelector(IFederatedLedger.BaseNotReleased.selector, base));
    }

    function test_one_round_is_open_at_a_time() public {
        opens();
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 0, 0, false)));
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundStillOpen.selector, 1);
        refuses(AGGREGATOR_1, call, refusal);
        later(START + WINDOW + GRACE + 1);
        refuses(AGGREGATOR_1, call, refusal);
        does(STRANGER, abortCall(1, EXPIRED));
        opens();
    }

    function test_nothing_happens_in_a_round_that_is_not_open() public {
        refusesWithout(0);
        refusesWithout(1);
        settled();
        refusesWithout(1);
        opens();
        refusesWithout(1);
        refusesWithout(3);
        cancels();
        refusesWithout(2);
    }

    function refusesWithout(uint32 round) private {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundNotOpen.selector, round);
        refuses(SITE_1, postCall(round), refusal);
        IFederatedLedger.SignedUpdate[] memory none = new IFederatedLedger.SignedUpdate[](0);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, none)), refusal);
        refuses(AGGREGATOR_1, settleCall(round, 2), refusal);
        refuses(AGGREGATOR_1, abortCall(round, CANCELLED), refusal);
        refuses(STRANGER, abortCall(round, EXPIRED), refusal);
    }

    function test_an_update_is_taken_up_to_the_second_of_the_deadline() public {
        opens();
        later(START + WINDOW - 1);
        posts(SITE_1);
        later(START + WINDOW);
        posts(SITE_2);
        cancels();
        uint32 round = opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, round, folded, cid("update"), 10);
        later(START + 2 * WINDOW + 1);
        uint256 deadline = START + 2 * WINDOW;
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundClosed.selector, round, deadline);
        refuses(SITE_1, postCall(round), refusal);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)), refusal);
    }

    function test_a_relayed_update_is_taken_up_to_the_second_of_the_deadline() public {
        uint32 round = opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, round, folded, cid("update"), 10);
        later(START + WINDOW);
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)));
    }

    function test_an_update_has_a_weight() public {
        opens();
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.WeightInvalid.selector);
        refuses(SITE_1, abi.encodeCall(ledger.postUpdate, (1, cid("update"), KEY_BLOB, 0)), refusal);
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, 1, folded, cid("update"), 0);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)), refusal);
        does(SITE_1, abi.encodeCall(ledger.postUpdate, (1, cid("update"), bytes32(0), 1)));
    }

    function test_a_round_is_settled_after_its_deadline_or_once_all_have_posted() public {
        opens();
        posts(SITE_1);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundStillRunning.selector, 1, START + WINDOW);
        refuses(AGGREGATOR_1, settleCall(1, 1), refusal);
        later(START + WINDOW - 1);
        refuses(AGGREGATOR_1, settleCall(1, 1), refusal);
        later(START + WINDOW);
        refuses(AGGREGATOR_1, settleCall(1, 1), refusal);
        refuses(AGGREGATOR_1, abortCall(1, QUORUM), refusal);
        later(START + WINDOW + 1);
        settles(1);
        opens();
        posts(SITE_1);
        posts(SITE_2);
        settles(2); // before the deadline
    }

    function test_who_settles_has_seen_every_entry() public {
        opens();
        posts(SITE_1);
        bytes memory settle = settleCall(1, 1);
        bytes memory abort = abortCall(1, QUORUM);
        bytes32 expected = folded;
        posts(SITE_2);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.HeadMoved.selector, expected, folded);
        refuses(AGGREGATOR_1, settle, refusal);
        refuses(AGGREGATOR_1, abort, refusal);
    }

    function test_a_settlement_counts_at_least_the_quorum_and_at_most_what_was_recorded() public {
        opens(termsOf(2, 0, 0, false));
        posts(SITE_1);
        posts(SITE_2);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.QuorumNotMet.selector, 1, 2);
        refuses(AGGREGATOR_1, settleCall(1, 1), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.CountedExceedsRecorded.selector, 3, 2);
        refuses(AGGREGATOR_1, settleCall(1, 3), refusal);
        settles(2);
    }

    function test_relayed_and_posted_updates_count_alike_and_each_round_anew() public {
        settled();
        opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, 2, folded, cid("update"), 10);
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (2, batch)));
        later(START + WINDOW + 1);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.CountedExceedsRecorded.selector, 2, 1);
        refuses(AGGREGATOR_1, settleCall(2, 2), refusal);
        settles(1);
    }

    function test_an_abort_has_a_reason() public {
        opens();
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AbortReasonMissing.selector);
        refuses(AGGREGATOR_1, abortCall(1, IFederatedLedger.AbortReason.None), refusal);
    }

    function test_a_round_expires_one_second_after_its_grace() public {
        opens();
        uint256 expiry = START + WINDOW + GRACE;
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundNotExpired.selector, 1, expiry);
        later(START + WINDOW + 1);
        refuses(AGGREGATOR_1, abortCall(1, EXPIRED), refusal);
        later(expiry - 1);
        refuses(STRANGER, abortCall(1, EXPIRED), refusal);
        later(expiry);
        refuses(STRANGER, abortCall(1, EXPIRED), refusal);
        later(expiry + 1);
        does(STRANGER, abortCall(1, EXPIRED));
    }

    function test_only_a_settled_model_is_attested_to() public {
        refusesUnsettled(0);
        refusesUnsettled(1);
        opens();
        refusesUnsettled(1);
        cancels();
        refusesUnsettled(1);
        refusesUnsettled(2);
    }

    function refusesUnsettled(uint32 round) private {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundNotSettled.selector, round);
        refuses(AUDITOR_1, attestCall(round, true), refusal);
    }

    function test_a_verdict_is_given_once() public {
        uint32 round = settled();
        attests(AUDITOR_1, round, false);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AttestationAlreadyRecorded.selector, round, 4);
        refuses(AUDITOR_1, attestCall(round, false), refusal);
        refuses(AUDITOR_1, attestCall(round, true), refusal);
    }

    // ----------------------------------------------------------------- erasure

    function test_an_erasure_is_recorded_by_nobody_but_the_member_and_the_governor() public {
        settled();
        bytes memory call = abi.encodeCall(ledger.erase, (1, 1, KEY_BLOB, REQUEST));
        refuses(SITE_2, call, abi.encodeWithSelector(IFederatedLedger.OwnerOrGovernorOnly.selector, SITE_2));
        moves(SITE_1, 1, SPARE);
        refuses(SITE_1, call, abi.encodeWithSelector(IFederatedLedger.OwnerOrGovernorOnly.selector, SITE_1));
        does(SPARE, call);
    }

    function test_an_erasure_names_an_ended_round_a_digest_and_a_reason() public {
        settled();
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundUnknown.selector, 0);
        refuses(SITE_1, abi.encodeCall(ledger.erase, (0, 1, KEY_BLOB, REQUEST)), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.RoundUnknown.selector, 2);
        refuses(SITE_1, abi.encodeCall(ledger.erase, (2, 1, KEY_BLOB, REQUEST)), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.DigestMissing.selector);
        refuses(SITE_1, abi.encodeCall(ledger.erase, (1, 1, "", REQUEST)), refusal);
        refusal = abi.encodeWithSelector(IFederatedLedger.ErasureReasonMissing.selector);
        IFederatedLedger.ErasureReason none = IFederatedLedger.ErasureReason.None;
        refuses(SITE_1, abi.encodeCall(ledger.erase, (1, 1, KEY_BLOB, none)), refusal);
        opens();
        refusal = abi.encodeWithSelector(IFederatedLedger.RoundStillOpen.selector, 2);
        refuses(SITE_1, abi.encodeCall(ledger.erase, (2, 1, KEY_BLOB, REQUEST)), refusal);
    }

    function test_a_grant_is_recorded_by_nobody_who_can_not_open_updates_at_present() public {
        settled();
        changesRoles(3, PARTICIPANT);
        changesRoles(4, 0);
        refusesRole(AGGREGATOR_1, 3, AGGREGATOR | AUDITOR, grantCall(1, 1, 1));
        refusesRole(AUDITOR_1, 4, AGGREGATOR | AUDITOR, grantCall(1, 1, 1));
        changesRoles(3, AGGREGATOR);
        moves(AGGREGATOR_1, 3, SPARE);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.AccountOutdated.selector, 3, 1);
        refuses(AGGREGATOR_1, grantCall(1, 1, 1), refusal);
        does(SPARE, grantCall(1, 1, 1));
    }

    function test_a_grant_is_for_rounds_in_order_that_were_opened_and_have_ended() public {
        refusesRounds(0, 0);
        refusesRounds(1, 1);
        settled();
        settled();
        settled();
        refusesRounds(0, 0);
        refusesRounds(0, 1);
        refusesRounds(2, 1);
        refusesRounds(3, 2);
        refusesRounds(1, 4);
        refusesRounds(4, 4);
        refusesRounds(4, 3);
        refusesRounds(1, type(uint32).max);
        refusesRounds(type(uint32).max, type(uint32).max);
        opens();
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundStillOpen.selector, 4);
        refuses(AUDITOR_1, grantCall(1, 1, 4), refusal);
        refuses(AUDITOR_1, grantCall(1, 4, 4), refusal);
        refusesRounds(0, 4);
        refusesRounds(1, 5);
        does(AUDITOR_1, grantCall(1, 1, 3));
        does(AUDITOR_1, grantCall(1, 3, 3));
    }

    function refusesRounds(uint32 first, uint32 last) private {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.RoundsInvalid.selector, first, last);
        refuses(AUDITOR_1, grantCall(1, first, last), refusal);
    }

    // -------------------------------------------------------------- signatures

    function test_a_bad_signature_fails_its_batch_and_is_named_by_its_index() public {
        opens();
        IFederatedLedger.SignedUpdate memory good = signed(SITE_2_KEY, 1, folded, cid("update"), 10);
        bytes32 order = bytes32(ORDER);
        refusesSecond(good, good.r, bytes32(0)); // recovers the zero account
        refusesSecond(good, bytes32(0), good.vs);
        refusesSecond(good, order, good.vs);
        refusesSecond(good, good.r, good.vs ^ bytes32(uint256(1) << 255)); // another account, a stranger
        bytes32 otherS = bytes32(ORDER - (uint256(good.vs) & (type(uint256).max >> 1)));
        require(uint256(otherS) >> 255 != 0, "it does not even fit the compact form");
        refusesSecond(good, good.r, otherS);
        // The other form of a signature, with s just above half the order: vs has room for it.
        refusesSecond(good, good.r, bytes32(ORDER / 2 + 1));
        good.weight += 1;
        refusesSecond(good, good.r, good.vs);
        IFederatedLedger.SignedUpdate memory strange = signed(101, 1, folded, cid("update"), 10);
        refusesSecond(strange, strange.r, strange.vs);
    }

    function test_a_signature_counts_with_an_s_up_to_half_the_order() public {
        bytes32 message = keccak256(abi.encode(ACCEPTANCE, cid("charter"), AGE_KEY, uint16(0)));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain(), message));
        bytes32 r = bytes32(uint256(1)); // any: for each there is an account that could have signed so
        bytes32 half = bytes32(ORDER / 2);
        admits(ecrecover(digest, 27, r, half), PARTICIPANT);
        does(STRANGER, abi.encodeCall(ledger.acceptSigned, (cid("charter"), AGE_KEY, 0, r, half)));
        bytes32 above = bytes32(ORDER / 2 + 1);
        admits(ecrecover(digest, 27, r, above), PARTICIPANT);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 0);
        refuses(STRANGER, abi.encodeCall(ledger.acceptSigned, (cid("charter"), AGE_KEY, 0, r, above)), refusal);
    }

    function test_a_signed_acceptance_counts_with_its_nonce_key_charter_and_signer_only() public {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 0);
        refuses(STRANGER, signedAcceptance(SITE_1_KEY, cid("charter"), 0), refusal);
        refuses(STRANGER, signedAcceptance(SITE_1_KEY, cid("charter"), 2), refusal);
        refuses(STRANGER, signedAcceptance(101, cid("charter"), 0), refusal); // signed by a stranger
        refuses(STRANGER, signedAcceptance(101, cid("charter"), 1), refusal);
        bytes memory good = signedAcceptance(SITE_1_KEY, cid("charter"), 1);
        for (uint256 word = 2; word < 6; ++word) {
            if (word == 3) continue; // another nonce is refused above
            bytes memory altered = bytes.concat(good);
            altered[4 + 32 * word + 31] ^= 0x01;
            refuses(STRANGER, altered, refusal);
        }
        does(STRANGER, good);
    }

    function test_a_signed_update_counts_in_its_round_history_chain_and_contract_only() public {
        opens();
        bytes32 opening = folded;
        refusesRelayed(1, signed(SITE_1_KEY, 1, bytes32(uint256(opening) ^ 1), cid("update"), 10));
        refusesRelayed(1, signed(SITE_1_KEY, 2, opening, cid("update"), 10));
        IFederatedLedger.SignedUpdate memory update = signed(SITE_1_KEY, 1, opening, cid("update"), 10);
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        refusesRelayed(1, update);
        vm.chainId(chain);
        cancels();
        opens();
        refusesRelayed(2, update);
        setUp();
        opens();
        refusesRelayed(1, update);
    }

    function refusesRelayed(uint32 round, IFederatedLedger.SignedUpdate memory update) private {
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = update;
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 0);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)), refusal);
    }

    function refusesSecond(IFederatedLedger.SignedUpdate memory signedUpdate, bytes32 r, bytes32 vs) private {
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](2);
        batch[0] = signed(SITE_1_KEY, 1, folded, cid("update"), 10);
        batch[1] = IFederatedLedger.SignedUpdate(signedUpdate.update, KEY_BLOB, signedUpdate.weight, r, vs);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 1);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)), refusal);
    }

    // ---------------------------------------------------------- dirty calldata

    /// @dev What is hashed and logged is copied from calldata: a word wider than its type never gets that far.
    function test_calldata_wider_than_its_type_is_refused() public {
        uint32 round = opens();
        refusesDirty(SITE_1, postCall(round), 0, 32); // round
        refusesDirty(SITE_1, postCall(round), 2, 8); // codec
        refusesDirty(SITE_1, postCall(round), 4, 64); // weight
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, round, folded, cid("update"), 10);
        refusesDirty(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)), 0, 32);
        posts(SITE_1);
        posts(SITE_2);
        bytes memory settle = settleCall(round, 2);
        refusesDirty(AGGREGATOR_1, settle, 0, 32);
        refusesDirty(AGGREGATOR_1, settle, 3, 8); // the model's codec
        refusesDirty(AGGREGATOR_1, settle, 5, 8); // the manifest's
        refusesDirty(AGGREGATOR_1, settle, 6, 16); // counted
        refusesDirty(AGGREGATOR_1, abortCall(round, QUORUM), 2, 8); // reason
        refusesDirty(AGGREGATOR_1, abortCall(round, QUORUM), 4, 8);
        settles(2);
        refusesDirty(AUDITOR_1, attestCall(round, true), 1, 1); // approve
        refusesDirty(AUDITOR_1, attestCall(round, true), 3, 8);
        refusesDirty(SITE_1, abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)), 1, 8);
        refusesDirty(GOVERNOR, abi.encodeCall(ledger.changeCharter, (cid("second"))), 1, 8);
        bytes memory open = abi.encodeCall(ledger.open, (cid("plan"), 0, termsOf(1, 1, 0, false)));
        uint8[9] memory bits = [0, 8, 32, 32, 32, 16, 16, 16, 1]; // plan, base, terms
        for (uint256 word = 1; word < bits.length; ++word) {
            refusesDirty(AGGREGATOR_1, open, word, bits[word]);
        }
    }

    /// @dev Even where its member signed the words as they are.
    function test_a_signed_word_wider_than_its_type_is_refused() public {
        uint32 round = opens();
        for (uint256 i = 0; i < 2; ++i) {
            uint256 codec = i == 0 ? 0x155 : 0x55;
            uint256 weight = i == 1 ? (1 << 64) + 10 : 10;
            bytes32 digest = cid("update").digest;
            bytes32 message = keccak256(abi.encode(UPDATE, round, folded, digest, codec, KEY_BLOB, weight));
            (bytes32 r, bytes32 vs) = sign(SITE_1_KEY, message);
            bytes memory call = bytes.concat(
                abi.encodeWithSelector(ledger.relayUpdates.selector, round, 0x40, 1),
                abi.encode(digest, codec, KEY_BLOB, weight, r, vs)
            );
            refuses(STRANGER, call, "");
        }
    }

    function refusesDirty(address sender, bytes memory call, uint256 word, uint256 bit) private {
        bytes memory dirty = bytes.concat(call);
        uint256 mask = uint256(1) << bit;
        assembly ("memory-safe") {
            let at := add(add(dirty, 0x24), mul(word, 0x20))
            mstore(at, or(mload(at), mask))
        }
        refuses(sender, dirty, "");
    }
}
