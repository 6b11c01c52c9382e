// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {StagedTest} from "./LedgerTest.sol";

/// @dev Members above the bits of a slot that is written anyway, 112 for updates and 88 for attestations, have theirs in
/// pages of 224 and of 256. These are the members at every border of both.
contract HighIdsTest is StagedTest {
    uint16 private constant MEMBERS = 514;
    uint16[] private ids =
        [1, 87, 88, 89, 90, 111, 112, 113, 114, 222, 223, 224, 225, 254, 255, 256, 257, 447, 448, 449, 511, 512, 513];

    function setUp() public override {
        super.setUp();
        for (uint16 id = 5; id <= MEMBERS; ++id) {
            admits(account(id), PARTICIPANT | AUDITOR);
        }
        for (uint256 i = 1; i < ids.length; ++i) {
            accepts(account(ids[i]));
        }
    }

    function test_each_member_has_one_update_in_each_round_and_takes_nobody_elses() public {
        for (uint32 round = 1; round <= 2; ++round) {
            opens();
            for (uint256 i = 0; i < ids.length; ++i) {
                posts(account(ids[i]));
                requirePosted(round, i);
            }
            for (uint256 i = 0; i < ids.length; ++i) {
                requirePosted(round, i);
            }
            posts(SITE_2);
            settles(uint16(ids.length + 1));
        }
    }

    function test_relayed_updates_of_all_members_are_recorded_once() public {
        uint32 round = opens();
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](2 * ids.length);
        for (uint256 i = 0; i < batch.length; ++i) {
            uint256 key = keyOf(ids[i % ids.length]);
            batch[i] = signed(key, round, folded, cid("update"), 10);
        }
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)));
        require(lastLogs().length == ids.length, "each once");
        for (uint256 i = 0; i < ids.length; ++i) {
            requirePosted(round, i);
        }
    }

    function test_a_batch_may_have_more_updates_than_a_byte_counts() public {
        for (uint16 id = 200; id < 500; ++id) {
            accepts(account(id));
        }
        uint32 round = opens(termsOf(300, 1, 0, false));
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](300);
        for (uint16 i = 0; i < 300; ++i) {
            batch[i] = signed(keyOf(200 + i), round, folded, cid("update"), 10);
        }
        does(STRANGER, abi.encodeCall(ledger.relayUpdates, (round, batch)));
        later(START + WINDOW + 1);
        settles(300);
    }

    function test_each_member_gives_one_verdict_on_each_model_and_takes_nobody_elses() public {
        settledByOne();
        settledByOne();
        for (uint32 round = 1; round <= 2; ++round) {
            for (uint256 i = 0; i < ids.length; ++i) {
                require(ledger.roundOf(round).status == IFederatedLedger.Status.Settled, "approvals are missing");
                attests(account(ids[i]), round, true);
                requireAttested(round, i);
            }
            for (uint256 i = 0; i < ids.length; ++i) {
                requireAttested(round, i);
            }
            require(ledger.roundOf(round).approvals == ids.length, "all approvals count");
            require(ledger.roundOf(round).status == IFederatedLedger.Status.Released, "the last one released it");
        }
    }

    function settledByOne() private {
        uint32 round = opens(termsOf(1, uint16(ids.length), 0, true));
        posts(SITE_1);
        vm.warp(vm.getBlockTimestamp() + WINDOW + 1);
        does(AGGREGATOR_1, settleCall(round, 1));
    }

    function requirePosted(uint32 round, uint256 i) private {
        bytes memory refusal = abi.encodeWithSelector(IFederatedLedger.UpdateAlreadyRecorded.selector, round, ids[i]);
        refuses(account(ids[i]), postCall(round), refusal);
    }

    function requireAttested(uint32 round, uint256 i) private {
        bytes memory refusal =
            abi.encodeWithSelector(IFederatedLedger.AttestationAlreadyRecorded.selector, round, ids[i]);
        refuses(account(ids[i]), attestCall(round, false), refusal);
    }

    function keyOf(uint16 id) private pure returns (uint256) {
        return id == 1 ? SITE_1_KEY : 1000 + id;
    }

    function account(uint16 id) private pure returns (address) {
        return vm.addr(keyOf(id));
    }
}
