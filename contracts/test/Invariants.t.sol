// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {Handler} from "./Handler.sol";

/// @dev Any calls by anyone in any order, each judged by {Handler}; and after each, all of the ledger's state against what
/// the entries tell.
contract InvariantsTest {
    Handler private handler;

    error NeverRecorded(bytes32 kind);

    function setUp() public {
        handler = new Handler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_the_ledger_is_what_its_entries_tell() public view {
        handler.requireHeadAsFolded();
        handler.requireMembersAsRecorded();
        handler.requireRoundsAsRecorded();
        handler.requireCountsAsRecounted();
    }

    /// @dev No invariant holds for want of calls: random ones reach every kind of entry, many times.
    function test_random_calls_reach_every_kind_of_entry() public {
        for (uint256 i = 0; i < 1500; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            random(seed >> 8, seed);
        }
        bytes32[17] memory kinds = [
            IFederatedLedger.GovernanceOffered.selector,
            IFederatedLedger.GovernanceTaken.selector,
            IFederatedLedger.CharterChanged.selector,
            IFederatedLedger.MemberAdmitted.selector,
            IFederatedLedger.RolesChanged.selector,
            IFederatedLedger.AccountReplaced.selector,
            IFederatedLedger.GenesisRecorded.selector,
            IFederatedLedger.CharterAccepted.selector,
            IFederatedLedger.AccountOffered.selector,
            IFederatedLedger.AccountTaken.selector,
            IFederatedLedger.RoundOpened.selector,
            IFederatedLedger.UpdateRecorded.selector,
            IFederatedLedger.RoundSettled.selector,
            IFederatedLedger.RoundAborted.selector,
            IFederatedLedger.AttestationRecorded.selector,
            IFederatedLedger.ErasureRecorded.selector,
            IFederatedLedger.GrantRecorded.selector
        ];
        for (uint256 i = 0; i < kinds.length; ++i) {
            if (handler.recorded(kinds[i]) == 0) revert NeverRecorded(kinds[i]);
        }
        invariant_the_ledger_is_what_its_entries_tell();
    }

    function random(uint256 seed, uint256 which) private {
        (uint256 a, uint256 b, uint256 c) = (seed >> 16, seed >> 80, seed >> 144);
        which %= 22;
        if (which == 0) handler.offerGovernance(a, b);
        else if (which == 1) handler.takeGovernance(a);
        else if (which == 2) handler.changeCharter(a, b);
        else if (which == 3) handler.admit(a, b, uint8(c), bytes32(c));
        else if (which == 4) handler.changeRoles(a, uint16(b), uint8(c));
        else if (which == 5) handler.replaceAccount(a, uint16(b), c);
        else if (which == 6) handler.recordGenesis(a);
        else if (which == 7) handler.accept(a, bytes32(b));
        else if (which == 8) handler.acceptSigned(a, b, uint16(c));
        else if (which == 9) handler.everyoneAccepts();
        else if (which == 10) handler.offerAccount(a, b);
        else if (which == 11) handler.takeAccount(uint16(a), b);
        else if (which == 12) handler.open(a, uint32(b), c);
        else if (which == 13) handler.postUpdate(a, uint32(b), uint64(c));
        else if (which == 14) handler.relayUpdates(a, b, c, seed >> 200, uint32(seed));
        else if (which == 15) handler.everyonePosts();
        else if (which == 16) handler.settle(a, uint32(b), c, uint16(seed));
        else if (which == 17) handler.abort(a, uint32(b), c, seed);
        else if (which == 18) handler.attest(a, uint32(b), c % 2 == 0);
        else if (which == 19) handler.erase(a, uint32(b), uint16(c), seed);
        else if (which == 20) handler.grant(a, uint16(b), uint32(c), uint32(seed));
        else handler.pass(a, b);
    }
}
