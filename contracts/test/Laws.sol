// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";

/// @dev What the laws use of Foundry's cheat codes, as halmos knows them.
interface SymbolicVm {
    function assume(bool condition) external;
    function deal(address account, uint256 balance) external;
    function getCode(string calldata artifact) external returns (bytes memory);
    function load(address target, bytes32 slot) external returns (bytes32);
    function prank(address sender) external;
    function roll(uint256 number) external;
    function store(address target, bytes32 slot, bytes32 value) external;
    function warp(uint256 time) external;
}

/// @dev Halmos's own: values that stand for all values of their type.
interface Svm {
    function createAddress(string calldata name) external returns (address);
    function createBytes32(string calldata name) external returns (bytes32);
    function createCalldata(string calldata contractName) external returns (bytes memory);
    function createUint(uint256 bits, string calldata name) external returns (uint256);
    function enableSymbolicStorage(address target) external;
}

/// @dev Laws that halmos proves: for every content of the ledger's storage, every caller, every call with every argument
/// and every time. What no call breaks, from whatever state, holds in every history.
/// The state is read as words, and conditions are joined without branches, since each branch doubles the exploration.
contract Laws {
    SymbolicVm private constant vm = SymbolicVm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm private constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    uint256 private constant OPEN = uint256(IFederatedLedger.Status.Open);
    uint256 private constant SETTLED = uint256(IFederatedLedger.Status.Settled);
    uint256 private constant RELEASED = uint256(IFederatedLedger.Status.Released);
    uint256 private constant AGGREGATOR = 2;
    uint256 private constant AUDITOR = 4;

    // Where the contract keeps what is read here: {check_the_words_read_here_are_what_the_getters_say}.
    uint256 private constant HEAD = 0;
    uint256 private constant NEWEST = 2;
    uint256 private constant MEMBERS = 9;
    uint256 private constant ACCOUNTS = 10;
    uint256 private constant ROUNDS = 12;

    struct State {
        uint256 head;
        uint256 entries;
        uint256 latest;
        uint256 deadline;
        uint256 recorded;
        uint256 round; // its first word
        uint256 digest; // of its model
        uint256 member; // of an account
    }

    IFederatedLedger private ledger;

    function setUp() public {
        bytes memory code = vm.getCode("build/foundry/halmos-out/FederatedLedger.sol/FederatedLedger.json");
        code = bytes.concat(code, abi.encode(IFederatedLedger.Cid("charter", 0x55)));
        address deployed;
        assembly {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        require(deployed != address(0));
        ledger = IFederatedLedger(deployed);
        svm.enableSymbolicStorage(deployed);
        for (uint256 slot = 0; slot < MEMBERS; ++slot) {
            vm.store(deployed, bytes32(slot), svm.createBytes32("slot")); // what the constructor wrote, too
        }
    }

    // -------------------------------------------------- what no single call breaks

    /// @dev All of these laws in one exploration of all calls; `round` and `account` stand for every one.
    function check_no_call_breaks_a_law(uint32 round, address account) public {
        // Whatever head: the hash of anything shorter than an entry, so that it is not that of the next one.
        vm.store(address(ledger), bytes32(HEAD), keccak256(abi.encode(svm.createBytes32("history"))));
        State memory before = stateOf(round, account);
        vm.assume(before.latest < type(uint32).max);
        vm.assume(theOpenRoundIsTheNewest(round));
        vm.assume(theOpenRoundIsTheNewest(before.latest));
        vm.assume(theOpenRoundIsTheNewest(before.latest + 1));

        (address caller, uint256 time) = anyCall();

        State memory present = stateOf(round, account);
        bool hold = theHeadChangesExactlyWithTheCountOfEntries(before, present);
        hold = both(hold, anAccountKeepsItsMemberId(before, present));
        hold = both(hold, aSettledModelNeverChanges(before, present));
        hold = both(hold, aModelIsReleasedOnlyWithItsApprovals(round, before, present));
        hold = both(hold, onlyAnAggregatorSettlesAfterTheDeadlineOrAllUpdates(round, before, present, caller, time));
        hold = both(hold, theOpenRoundIsTheNewest(round));
        assert(hold);
    }

    function theHeadChangesExactlyWithTheCountOfEntries(State memory before, State memory present)
        private
        pure
        returns (bool)
    {
        bool more = present.entries > before.entries;
        return both(present.entries >= before.entries, (present.head != before.head) == more);
    }

    function anAccountKeepsItsMemberId(State memory before, State memory present) private pure returns (bool) {
        uint256 id = field(before.member, 0, 16);
        return implies(id != 0, field(present.member, 0, 16) == id);
    }

    function aSettledModelNeverChanges(State memory before, State memory present) private pure returns (bool) {
        bool same = both(present.digest == before.digest, codec(present.round) == codec(before.round));
        bool stays = both(isSettled(present.round), status(present.round) >= status(before.round));
        return implies(isSettled(before.round), both(same, stays));
    }

    function aModelIsReleasedOnlyWithItsApprovals(uint32 round, State memory before, State memory present)
        private
        pure
        returns (bool)
    {
        bool isReleased = both(status(before.round) != RELEASED, status(present.round) == RELEASED);
        (uint256 needed, uint256 approvals) = (field(present.round, 16, 16), field(present.round, 32, 16));
        (uint256 allowed, uint256 rejections) = (field(present.round, 48, 16), field(present.round, 64, 16));
        bool approved = both(approvals >= needed, either(needed == 0, rejections <= allowed));
        return implies(both(isReleased, round != 0), approved); // the genesis model is the governor's word
    }

    function onlyAnAggregatorSettlesAfterTheDeadlineOrAllUpdates(
        uint32 round,
        State memory before,
        State memory present,
        address caller,
        uint256 time
    ) private returns (bool) {
        bool settles = both(status(before.round) == OPEN, isSettled(present.round));
        bool ended = either(time > before.deadline, before.recorded >= field(before.round, 112, 16));
        bool open = both(round == before.latest, before.deadline != 0);
        bool stands = standsIn(read(memberSlot(caller)), round, AGGREGATOR);
        return implies(settles, both(stands, both(ended, open)));
    }

    /// @dev What {aSettledModelNeverChanges} needs of the state before. At the deployment there is no round.
    function theOpenRoundIsTheNewest(uint256 round) private returns (bool) {
        uint256 newest = read(NEWEST);
        (uint256 latest, uint256 deadline) = (field(newest, 40, 32), field(newest, 72, 40));
        uint256 state = status(read(roundSlot(round)));
        bool open = both(round == latest, deadline != 0);
        return both((state == OPEN) == open, implies(round > latest, state == 0));
    }

    function check_no_call_takes_ether() public {
        bytes memory call = svm.createCalldata("FederatedLedger");
        vm.deal(address(this), 1);
        (bool done,) = address(ledger).call{value: 1}(call);
        assert(!done);
    }

    // --------------------------------------------------------------- certain calls

    function check_a_settlement_names_the_head_and_counts_from_quorum_to_recorded(
        uint32 round,
        bytes32 expected,
        uint16 counted
    ) public {
        (uint256 head, uint256 newest, uint256 opened) = (read(HEAD), read(NEWEST), read(roundSlot(round)));
        IFederatedLedger.Cid memory blob = IFederatedLedger.Cid(svm.createBytes32("blob"), 0x55);
        vm.warp(svm.createUint(40, "time"));
        vm.prank(someone("sender"));
        (bool done,) = address(ledger).call(abi.encodeCall(ledger.settle, (round, expected, blob, blob, counted)));
        bool possible = both(counted >= field(opened, 96, 16), counted <= field(newest, 112, 16));
        assert(implies(done, both(head == uint256(expected), possible)));
    }

    function check_no_member_posts_twice_in_a_round(uint32 round) public {
        (address first, address second) = (someone("first account"), someone("second account"));
        bool same = field(read(memberSlot(first)), 0, 16) == field(read(memberSlot(second)), 0, 16);
        bool twice = both(posts(first, round), posts(second, round));
        assert(!both(same, twice));
    }

    function check_no_member_attests_twice_to_a_model(uint32 round, bool approve) public {
        (address first, address second) = (someone("first account"), someone("second account"));
        bool same = field(read(memberSlot(first)), 0, 16) == field(read(memberSlot(second)), 0, 16);
        bool twice = both(attests(first, round, approve), attests(second, round, approve));
        assert(!both(same, twice));
    }

    function check_no_batch_records_two_updates_of_one_signature(uint32 round) public {
        uint256 entries = field(read(NEWEST), 0, 40);
        vm.assume(entries < 1 << 39);
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](2);
        batch[0] = IFederatedLedger.SignedUpdate({
            update: IFederatedLedger.Cid(svm.createBytes32("update"), 0x55),
            keyBlob: svm.createBytes32("key blob"),
            weight: uint64(svm.createUint(64, "weight")),
            r: svm.createBytes32("r"),
            vs: svm.createBytes32("vs")
        });
        batch[1] = batch[0];
        (bool done,) = address(ledger).call(abi.encodeCall(ledger.relayUpdates, (round, batch)));
        assert(implies(done, field(read(NEWEST), 0, 40) <= entries + 1));
    }

    function check_a_grant_is_by_a_present_aggregator_or_auditor_for_rounds_that_ended(
        uint16 to,
        uint32 first,
        uint32 last
    ) public {
        vm.assume(field(read(NEWEST), 0, 40) < 1 << 39);
        address caller = someone("sender");
        bool possible = both(opensUpdates(caller), field(read(accountSlot(to)), 0, 160) != 0);
        possible = both(possible, haveEnded(first, last));
        IFederatedLedger.Cid memory keys = IFederatedLedger.Cid(svm.createBytes32("keys"), 0x55);
        vm.prank(caller);
        (bool done,) = address(ledger).call(abi.encodeCall(ledger.grant, (to, first, last, keys)));
        assert(done == both(possible, keys.digest != 0));
    }

    function opensUpdates(address account) private returns (bool) {
        uint256 member = read(memberSlot(account));
        uint256 id = field(member, 0, 16);
        bool present = both(id != 0, field(read(accountSlot(id)), 0, 160) == uint160(account));
        return both(present, field(member, 16, 8) & (AGGREGATOR | AUDITOR) != 0);
    }

    function haveEnded(uint32 first, uint32 last) private returns (bool) {
        (uint256 latest, uint256 deadline) = (field(read(NEWEST), 40, 32), field(read(NEWEST), 72, 40));
        bool within = both(both(first > 0, first <= last), last <= latest);
        return both(within, either(last != latest, deadline == 0));
    }

    function check_the_words_read_here_are_what_the_getters_say(uint32 number, address account) public {
        uint256 word = read(roundSlot(number));
        IFederatedLedger.Round memory round = ledger.roundOf(number);
        assert(uint256(round.status) == status(word) && round.approvalsNeeded == field(word, 16, 16));
        assert(round.approvals == field(word, 32, 16) && round.rejectionsAllowed == field(word, 48, 16));
        assert(round.rejections == field(word, 64, 16) && round.quorum == field(word, 96, 16));
        assert(round.eligible == field(word, 112, 16) && round.model.codec == codec(word));
        assert(uint256(round.model.digest) == read(roundSlot(number) + 1));
        word = read(memberSlot(account));
        IFederatedLedger.Member memory member = ledger.memberOf(account);
        assert(member.id == field(word, 0, 16) && member.roles == field(word, 16, 8));
        assert(member.rolesBefore == field(word, 24, 8) && member.rolesSince == field(word, 32, 32));
        assert(member.since == field(word, 64, 32) && member.until == field(word, 96, 32));
        vm.assume(ledger.memberCount() > 0);
        assert(uint160(ledger.accountsOf(1, 1)[0]) == field(read(accountSlot(1)), 0, 160));
        assert(uint256(ledger.head()) == read(HEAD) && ledger.entryCount() == field(read(NEWEST), 0, 40));
        assert(ledger.latestRound() == field(read(NEWEST), 40, 32));
    }

    // ----------------------------------------------------------------- helpers

    function anyCall() private returns (address caller, uint256 time) {
        vm.assume(field(read(NEWEST), 0, 40) < 1 << 39); // no chain has room for 2^40 entries
        bytes memory call = svm.createCalldata("FederatedLedger");
        caller = someone("sender");
        time = svm.createUint(40, "time");
        vm.warp(time);
        vm.roll(svm.createUint(40, "block"));
        vm.prank(caller);
        (bool done,) = address(ledger).call(call);
        vm.assume(done); // a call that is refused changes nothing
    }

    function posts(address account, uint32 round) private returns (bool done) {
        IFederatedLedger.Cid memory update = IFederatedLedger.Cid(svm.createBytes32("update"), 0x55);
        uint64 weight = uint64(svm.createUint(64, "weight"));
        bytes32 keyBlob = svm.createBytes32("key blob");
        vm.prank(account);
        (done,) = address(ledger).call(abi.encodeCall(ledger.postUpdate, (round, update, keyBlob, weight)));
        vm.assume(done);
    }

    function attests(address account, uint32 round, bool approve) private returns (bool done) {
        IFederatedLedger.Cid memory report = IFederatedLedger.Cid(svm.createBytes32("report"), 0x55);
        vm.prank(account);
        (done,) = address(ledger).call(abi.encodeCall(ledger.attest, (round, approve, report)));
        vm.assume(done);
    }

    function someone(string memory name) private returns (address account) {
        account = svm.createAddress(name);
        vm.assume(account != address(0)); // nobody has its key
    }

    /// @dev The member of that word may act in the round with that role, as far as rounds and roles say.
    function standsIn(uint256 member, uint256 round, uint256 role) private pure returns (bool) {
        bool since = both(round > field(member, 64, 32), round <= field(member, 96, 32));
        bool later = both(round > field(member, 32, 32), field(member, 16, 8) & role != 0);
        bool before = both(round <= field(member, 32, 32), field(member, 24, 8) & role != 0);
        return both(both(field(member, 0, 16) != 0, since), either(later, before));
    }

    function stateOf(uint32 round, address account) private returns (State memory state) {
        uint256 newest = read(NEWEST);
        state.head = read(HEAD);
        (state.entries, state.latest) = (field(newest, 0, 40), field(newest, 40, 32));
        (state.deadline, state.recorded) = (field(newest, 72, 40), field(newest, 112, 16));
        (state.round, state.digest) = (read(roundSlot(round)), read(roundSlot(round) + 1));
        state.member = read(memberSlot(account));
    }

    function isSettled(uint256 round) private pure returns (bool) {
        return either(status(round) == SETTLED, status(round) == RELEASED);
    }

    function status(uint256 round) private pure returns (uint256) {
        return field(round, 0, 8);
    }

    function codec(uint256 round) private pure returns (uint256) {
        return field(round, 160, 8);
    }

    function memberSlot(address account) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(account, MEMBERS)));
    }

    function accountSlot(uint256 member) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(member, ACCOUNTS)));
    }

    function roundSlot(uint256 round) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(round, ROUNDS)));
    }

    function read(uint256 slot) private returns (uint256) {
        return uint256(vm.load(address(ledger), bytes32(slot)));
    }

    function field(uint256 word, uint256 offset, uint256 bits) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := and(shr(offset, word), sub(shl(bits, 1), 1))
        }
    }

    function both(bool a, bool b) private pure returns (bool c) {
        assembly ("memory-safe") {
            c := and(a, b)
        }
    }

    function either(bool a, bool b) private pure returns (bool c) {
        assembly ("memory-safe") {
            c := or(a, b)
        }
    }

    function implies(bool a, bool b) private pure returns (bool) {
        return either(!a, b);
    }
}
