// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";

/// @dev What these tests use of Foundry's cheat codes. Block number and time are asked of it, since the optimizer takes
/// the opcodes for constant within a call.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function addr(uint256 key) external pure returns (address);
    function chainId(uint256 id) external;
    function deal(address account, uint256 balance) external;
    function deployCode(string calldata artifact, bytes calldata arguments) external returns (address);
    function getBlockNumber() external view returns (uint256);
    function getBlockTimestamp() external view returns (uint256);
    function getRecordedLogs() external returns (Log[] memory);
    function load(address target, bytes32 slot) external view returns (bytes32);
    function prank(address sender) external;
    function recordLogs() external;
    function roll(uint256 number) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function warp(uint256 time) external;
}

/// @dev A new ledger, the key of each actor, and two ways to call: {does} expects success and refolds the head from the
/// logs, {refuses} expects one exact error and that nothing was recorded.
/// The ledger is deployed by its artifact's name: a change of the contract does not compile the tests again.
abstract contract LedgerTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint8 internal constant PARTICIPANT = 1;
    uint8 internal constant AGGREGATOR = 2;
    uint8 internal constant AUDITOR = 4;

    // Block numbers and times above 32 bits, so that none is cut to them unnoticed.
    uint256 internal constant START = 5_000_000_000;
    uint256 internal constant BLOCK = 6_000_000_000;
    uint32 internal constant WINDOW = 600;
    uint32 internal constant GRACE = 60;
    bytes32 internal constant UPDATE =
        keccak256("Update(uint32 round,bytes32 openingHead,bytes32 digest,uint8 codec,bytes32 keyBlob,uint64 weight)");
    bytes32 internal constant ACCEPTANCE =
        keccak256("Acceptance(bytes32 digest,uint8 codec,bytes32 ageKey,uint16 nonce)");
    bytes32 internal constant AGE_KEY = "age key";
    bytes32 internal constant KEY_BLOB = "key blob";
    IFederatedLedger.Cid internal NONE;

    address internal immutable GOVERNOR = vm.addr(100);
    address internal immutable STRANGER = vm.addr(101);
    address internal immutable SPARE = vm.addr(102);

    IFederatedLedger internal ledger;
    bytes32 internal folded; // the head, refolded from the logs
    uint256 internal entries;
    Vm.Log[] private _logs; // of the last call

    function deploy() internal {
        vm.warp(START);
        vm.roll(BLOCK);
        vm.prank(GOVERNOR);
        bytes memory charter = abi.encode(cid("charter"));
        ledger = IFederatedLedger(vm.deployCode("FederatedLedger.sol:FederatedLedger", charter));
        entries = 0;
        folded = keccak256(abi.encode(1, block.chainid, ledger, GOVERNOR, cid("charter")));
        require(ledger.head() == folded, "the first head binds version, chain, address, governor and charter");
    }

    // ------------------------------------------------------------------ calls

    function does(address sender, bytes memory call) internal returns (bytes memory result) {
        bool done;
        (done, result) = attempt(sender, call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(result, 0x20), mload(result))
            }
        }
    }

    function refuses(address sender, bytes memory call, bytes memory refusal) internal {
        (bool done, bytes memory reason) = attempt(sender, call);
        require(!done, "the call is refused");
        requireSame(reason, refusal, "the refusal");
    }

    /// @dev `call` records one entry with that kind and those fields.
    function records(address sender, bytes memory call, bytes32 kind, bytes memory fields) internal {
        does(sender, call);
        require(_logs.length == 1, "one entry");
        require(_logs[0].topics[0] == kind, "the entry's kind");
        requireSame(_logs[0].data, fields, "the entry's fields");
    }

    /// @dev Calls and checks that the head went along with the logs, whatever the call came to.
    function attempt(address sender, bytes memory call) internal returns (bool done, bytes memory result) {
        bytes32 before = folded;
        vm.recordLogs();
        vm.prank(sender);
        (done, result) = address(ledger).call(call);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        delete _logs;
        uint256 recorded = done ? logs.length : 0; // the cheat code records logs that a refusal undoes, too
        for (uint256 i = 0; i < recorded; ++i) {
            require(logs[i].emitter == address(ledger) && logs[i].topics.length == 1, "one topic: the kind");
            folded = keccak256(
                bytes.concat(
                    abi.encode(folded, logs[i].topics[0]),
                    logs[i].data,
                    abi.encode(vm.getBlockNumber(), vm.getBlockTimestamp())
                )
            );
            _logs.push(logs[i]);
        }
        entries += recorded;
        require(ledger.head() == folded, "the head is the refold of the logs");
        require(ledger.entryCount() == entries, "the count of entries is the count of logs");
        require((folded != before) == (recorded > 0), "the head changes exactly when an entry is recorded");
    }

    function lastLogs() internal view returns (Vm.Log[] memory) {
        return _logs;
    }

    function later(uint256 time) internal {
        vm.warp(time);
        vm.roll(vm.getBlockNumber() + 1);
    }

    // ---------------------------------------------------------------- material

    function cid(string memory blob) internal pure returns (IFederatedLedger.Cid memory) {
        return IFederatedLedger.Cid(keccak256(bytes(blob)), 0x55);
    }

    function termsOf(uint16 quorum, uint16 approvals, uint16 rejections, bool participantsAttest)
        internal
        pure
        returns (IFederatedLedger.Terms memory)
    {
        return IFederatedLedger.Terms(WINDOW, GRACE, quorum, approvals, rejections, participantsAttest);
    }

    function signed(uint256 key, uint32 round, bytes32 openingHead, IFederatedLedger.Cid memory update, uint64 weight)
        internal
        view
        returns (IFederatedLedger.SignedUpdate memory)
    {
        (bytes32 r, bytes32 vs) = sign(key, keccak256(abi.encode(UPDATE, round, openingHead, update, KEY_BLOB, weight)));
        return IFederatedLedger.SignedUpdate(update, KEY_BLOB, weight, r, vs);
    }

    function signedAcceptance(uint256 key, IFederatedLedger.Cid memory charter, uint16 nonce)
        internal
        view
        returns (bytes memory call)
    {
        (bytes32 r, bytes32 vs) = sign(key, keccak256(abi.encode(ACCEPTANCE, charter, AGE_KEY, nonce)));
        return abi.encodeCall(ledger.acceptSigned, (charter, AGE_KEY, nonce, r, vs));
    }

    /// @dev The compact form of EIP-2098.
    function sign(uint256 key, bytes32 message) internal view returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain(), message)));
        vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
    }

    function domain() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("fedledger"),
                keccak256("1"),
                block.chainid,
                ledger
            )
        );
    }

    function requireSame(bytes memory shown, bytes memory expected, string memory what) internal pure {
        if (keccak256(shown) != keccak256(expected)) revert Different(what, shown, expected);
    }

    error Different(string what, bytes shown, bytes expected);
}

/// @dev The stage on which single claims are tested: two sites, an aggregator and an auditor under the charter, and a
/// genesis model.
abstract contract StagedTest is LedgerTest {
    uint256 internal constant SITE_1_KEY = 1;
    uint256 internal constant SITE_2_KEY = 2;
    address internal immutable SITE_1 = vm.addr(SITE_1_KEY);
    address internal immutable SITE_2 = vm.addr(SITE_2_KEY);
    address internal immutable AGGREGATOR_1 = vm.addr(3);
    address internal immutable AUDITOR_1 = vm.addr(4);

    function setUp() public virtual {
        deploy();
        admits(SITE_1, PARTICIPANT);
        admits(SITE_2, PARTICIPANT);
        admits(AGGREGATOR_1, AGGREGATOR);
        admits(AUDITOR_1, AUDITOR);
        accepts(SITE_1);
        accepts(SITE_2);
        accepts(AGGREGATOR_1);
        accepts(AUDITOR_1);
        does(GOVERNOR, abi.encodeCall(ledger.recordGenesis, (cid("genesis"))));
    }

    function admits(address account, uint8 roles) internal returns (uint16) {
        return abi.decode(does(GOVERNOR, abi.encodeCall(ledger.admit, (account, roles, "name"))), (uint16));
    }

    function accepts(address account) internal {
        (IFederatedLedger.Cid memory charter,) = ledger.charter();
        does(account, abi.encodeCall(ledger.accept, (charter, AGE_KEY)));
    }

    function opens(IFederatedLedger.Terms memory terms) internal returns (uint32) {
        (uint32 base,) = ledger.latestModel();
        bytes memory call = abi.encodeCall(ledger.open, (cid("plan"), base, terms));
        return abi.decode(does(AGGREGATOR_1, call), (uint32));
    }

    function opens() internal returns (uint32) {
        return opens(termsOf(1, 1, 0, false));
    }

    function postCall(uint32 round) internal view returns (bytes memory) {
        return abi.encodeCall(ledger.postUpdate, (round, cid("update"), KEY_BLOB, 10));
    }

    function posts(address account) internal {
        does(account, postCall(ledger.latestRound()));
    }

    function settleCall(uint32 round, uint16 counted) internal view returns (bytes memory) {
        return abi.encodeCall(ledger.settle, (round, folded, cid("model"), cid("manifest"), counted));
    }

    function settles(uint16 counted) internal {
        does(AGGREGATOR_1, settleCall(ledger.latestRound(), counted));
    }

    /// @dev A round in which both sites posted, settled.
    function settled(IFederatedLedger.Terms memory terms) internal returns (uint32 round) {
        round = opens(terms);
        posts(SITE_1);
        posts(SITE_2);
        settles(2);
    }

    function settled() internal returns (uint32) {
        return settled(termsOf(1, 1, 0, false));
    }

    function abortCall(uint32 round, IFederatedLedger.AbortReason reason) internal view returns (bytes memory) {
        bool lacksQuorum = reason == IFederatedLedger.AbortReason.Quorum;
        return abi.encodeCall(ledger.abort, (round, folded, reason, lacksQuorum ? cid("manifest") : NONE));
    }

    function cancels() internal {
        does(AGGREGATOR_1, abortCall(ledger.latestRound(), IFederatedLedger.AbortReason.Cancelled));
    }

    function attestCall(uint32 round, bool approve) internal view returns (bytes memory) {
        return abi.encodeCall(ledger.attest, (round, approve, cid("report")));
    }

    function attests(address account, uint32 round, bool approve) internal {
        does(account, attestCall(round, approve));
    }

    function grantCall(uint16 to, uint32 first, uint32 last) internal view returns (bytes memory) {
        return abi.encodeCall(ledger.grant, (to, first, last, cid("keys")));
    }

    function changesRoles(uint16 member, uint8 roles) internal {
        does(GOVERNOR, abi.encodeCall(ledger.changeRoles, (member, roles)));
    }

    function changesCharter(string memory charter) internal {
        does(GOVERNOR, abi.encodeCall(ledger.changeCharter, (cid(charter))));
    }

    function moves(address account, uint16 member, address to) internal {
        does(account, abi.encodeCall(ledger.offerAccount, (to)));
        does(to, abi.encodeCall(ledger.takeAccount, (member)));
    }
}
