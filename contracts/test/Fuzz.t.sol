// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {StagedTest} from "./LedgerTest.sol";

/// @dev Single laws for arguments of any value; {Invariants.t.sol} has the sequences of calls.
contract FuzzTest is StagedTest {
    function testFuzz_no_calldata_moves_the_head_without_an_entry(uint8 which, bytes calldata arguments) public {
        bytes4[9] memory calls = [
            ledger.postUpdate.selector,
            ledger.relayUpdates.selector,
            ledger.settle.selector,
            ledger.abort.selector,
            ledger.attest.selector,
            ledger.accept.selector,
            ledger.open.selector,
            ledger.grant.selector,
            bytes4(keccak256(arguments))
        ];
        opens();
        address[4] memory senders = [SITE_1, AGGREGATOR_1, AUDITOR_1, GOVERNOR];
        attempt(senders[which / 9 % 4], bytes.concat(calls[which % 9], arguments)); // it compares logs and head
    }

    function testFuzz_an_update_is_recorded_as_it_was_posted(bytes32 digest, bool large, bytes32 keyBlob, uint64 weight)
        public
    {
        if (digest == 0 || weight == 0) return;
        IFederatedLedger.Cid memory update = IFederatedLedger.Cid(digest, large ? 0x70 : 0x55);
        opens();
        records(
            SITE_1,
            abi.encodeCall(ledger.postUpdate, (1, update, keyBlob, weight)),
            IFederatedLedger.UpdateRecorded.selector,
            abi.encode(1, 1, update, keyBlob, weight, SITE_1)
        );
    }

    function testFuzz_only_terms_that_can_be_met_open_a_round(IFederatedLedger.Terms calldata terms) public {
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), 0, terms));
        (bool done,) = attempt(AGGREGATOR_1, call);
        bool possible = terms.window > 0 && terms.quorum > 0 && terms.quorum <= 2
            && terms.approvals <= (terms.participantsAttest ? 3 : 1);
        require(done == possible, "two participants and one auditor are under the charter");
        IFederatedLedger.Terms memory fitting = terms;
        (fitting.quorum, fitting.approvals) = (1 + terms.quorum % 2, terms.approvals % 2);
        if (!done && terms.window > 0) opens(fitting);
    }

    function testFuzz_a_grant_is_recorded_as_it_was_asked_for_exactly_of_rounds_that_have_ended(
        uint32 first,
        uint32 last,
        bytes32 digest
    ) public {
        if (digest == 0) return;
        for (uint256 i = 0; i < 3; ++i) {
            opens();
            cancels();
        }
        opens();
        IFederatedLedger.Cid memory keys = IFederatedLedger.Cid(digest, 0x55);
        (bool done,) = attempt(AUDITOR_1, abi.encodeCall(ledger.grant, (2, first, last, keys)));
        require(done == (first > 0 && first <= last && last < 4), "three rounds have ended");
        (first, last) = (1 + first % 3, 1 + last % 3);
        if (first > last) (first, last) = (last, first);
        records(
            AUDITOR_1,
            abi.encodeCall(ledger.grant, (2, first, last, keys)),
            IFederatedLedger.GrantRecorded.selector,
            abi.encode(4, 2, first, last, keys)
        );
    }

    function testFuzz_no_other_signature_counts(bytes32 r, bytes32 vs) public {
        opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](1);
        batch[0] = signed(SITE_1_KEY, 1, folded, cid("update"), 10);
        if (r == batch[0].r && vs == batch[0].vs) return;
        (batch[0].r, batch[0].vs) = (r, vs);
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.SignatureInvalid.selector, 0);
        refuses(STRANGER, abi.encodeCall(ledger.relayUpdates, (1, batch)), refusal);
    }

    function testFuzz_no_time_up_to_the_deadline_settles_without_all_updates(uint16 seconds_) public {
        opens();
        posts(SITE_1);
        later(START + seconds_ % (2 * WINDOW));
        (bool done,) = attempt(AGGREGATOR_1, settleCall(1, 1));
        require(done == (vm.getBlockTimestamp() > START + WINDOW), "one second after the deadline, and no earlier");
    }

    function testFuzz_no_other_head_settles(bytes32 head) public {
        opens();
        posts(SITE_1);
        posts(SITE_2);
        if (head == folded) return;
        bytes memory call = abi.encodeCall(ledger.settle, (1, head, cid("model"), cid("manifest"), 2));
        refuses(AGGREGATOR_1, call, abi.encodeWithSelector(IFederatedLedger.HeadMoved.selector, head, folded));
    }

    function testFuzz_accounts_are_listed_for_any_range(uint16 first, uint16 count) public view {
        address[] memory accounts = ledger.accountsOf(first, count);
        uint256 expected = first == 0 || first > 4 ? 0 : uint256(5 - first) < count ? 5 - first : count;
        require(accounts.length == expected, "as many as there are in the range");
        for (uint256 i = 0; i < expected; ++i) {
            require(ledger.memberOf(accounts[i]).id == first + i, "in the order of ids");
        }
    }
}
