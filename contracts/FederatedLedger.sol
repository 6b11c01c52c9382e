// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "./IFederatedLedger.sol";

/// @title FederatedLedger: the commitments of one federation's training history.
/// @notice Members, rounds, updates, settlements and attestations, each an entry that extends one running head.
/// There is no proxy, no owner power over recorded history, and no ether.
/// @dev What each call requires stands in {IFederatedLedger}. `ledger/history.py` is the same state machine.
contract FederatedLedger is IFederatedLedger {
    /// @notice The version of these rules; part of the first head.
    uint256 public constant VERSION = 1;

    uint8 private constant _PARTICIPANT = 1;
    uint8 private constant _AGGREGATOR = 2;
    uint8 private constant _AUDITOR = 4;
    uint8 private constant _ALL_ROLES = 7;

    uint8 private constant _RAW = 0x55;
    uint8 private constant _DAG_PB = 0x70;

    /// @dev All that changes with every update lies in one slot beside the head, so an update's gas is constant.
    struct State {
        uint48 entries;
        uint32 round;
        uint40 deadline;
        uint16 recorded;
        uint16 eligible;
        uint16 quorum;
        uint16 approvals;
        uint16 participants;
        uint16 auditors;
        uint16 members;
        bool isOpen;
    }

    /// @inheritdoc IFederatedLedger
    bytes32 public head;
    State private _state;
    mapping(address account => Member) private _members;
    mapping(uint32 round => Round) private _rounds;
    mapping(uint32 round => mapping(uint16 auditor => bool)) private _attested;
    /// @inheritdoc IFederatedLedger
    address public governor;
    Cid private _charter;

    constructor(Cid memory charter_) {
        if (charter_.digest == 0 || (charter_.codec != _RAW && charter_.codec != _DAG_PB)) {
            revert CidInvalid(charter_.digest, charter_.codec);
        }
        governor = msg.sender;
        _charter = charter_;
        head = keccak256(abi.encode(VERSION, block.chainid, address(this), msg.sender, charter_));
    }

    // -------------------------------------------------------------------- calls

    /// @inheritdoc IFederatedLedger
    function admit(address account, uint8 roles, bytes32 name) external returns (uint16 member) {
        _requireGovernor();
        if (account == address(0)) revert MemberAccountZero();
        if (_members[account].id != 0) revert MemberAccountTaken(account);
        if (roles == 0 || roles > _ALL_ROLES) revert MemberRolesInvalid(roles);
        if (name == 0) revert MemberNameMissing();

        member = ++_state.members;
        if (roles & _PARTICIPANT != 0) _state.participants++;
        if (roles & _AUDITOR != 0) _state.auditors++;
        _members[account] = Member({id: member, roles: roles, since: _state.round, lastRound: 0});
        uint64 entry = _extend(
            abi.encode(
                head, Kind.MemberAdmitted, member, account, roles, name, block.number, block.timestamp
            )
        );
        emit MemberAdmitted(entry, member, account, roles, name);
    }

    /// @inheritdoc IFederatedLedger
    function recordGenesis(Cid calldata model) external {
        _requireGovernor();
        if (_rounds[0].status != Status.None) revert GenesisAlreadyRecorded();
        _requireCid(model);

        _rounds[0].status = Status.Released;
        _rounds[0].model = model;
        uint64 entry =
            _extend(abi.encode(head, Kind.GenesisRecorded, model, block.number, block.timestamp));
        emit GenesisRecorded(entry, model);
    }

    /// @inheritdoc IFederatedLedger
    function open(Cid calldata plan, uint32 baseRound, uint32 window, uint16 quorum, uint16 approvals)
        external
        returns (uint32 round)
    {
        uint16 aggregator = _requireRole(_AGGREGATOR).id;
        State memory state = _state;
        if (state.isOpen) revert RoundStillOpen(state.round);
        if (_rounds[baseRound].status != Status.Released) revert BaseNotReleased(baseRound);
        if (window == 0) revert WindowInvalid();
        if (quorum == 0 || quorum > state.participants) revert QuorumInvalid(quorum, state.participants);
        if (approvals > state.auditors) revert ApprovalsInvalid(approvals, state.auditors);
        _requireCid(plan);

        round = ++state.round;
        state.deadline = uint40(block.timestamp) + window;
        state.recorded = 0;
        state.eligible = state.participants;
        state.quorum = quorum;
        state.approvals = approvals;
        state.isOpen = true;
        _state = state;
        Cid memory base = _rounds[baseRound].model;
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.RoundOpened,
                round,
                aggregator,
                plan,
                baseRound,
                base,
                state.deadline,
                quorum,
                approvals,
                block.number,
                block.timestamp
            )
        );
        emit RoundOpened(
            entry, round, aggregator, plan, baseRound, base, state.deadline, quorum, approvals
        );
    }

    /// @inheritdoc IFederatedLedger
    function submit(uint32 round, Cid calldata update, uint64 weight) external {
        Member memory member = _requireRole(_PARTICIPANT);
        _requireOpen(round);
        if (member.since >= round) revert MemberNotEligible(member.id, round);
        if (block.timestamp > _state.deadline) revert RoundClosed(round, _state.deadline);
        if (member.lastRound == round) revert UpdateAlreadyRecorded(round, member.id);
        if (weight == 0) revert WeightInvalid();
        _requireCid(update);

        _members[msg.sender].lastRound = round;
        _state.recorded++;
        uint64 entry = _extend(
            abi.encode(
                head, Kind.UpdateRecorded, round, member.id, update, weight, block.number, block.timestamp
            )
        );
        emit UpdateRecorded(entry, round, member.id, update, weight);
    }

    /// @inheritdoc IFederatedLedger
    function settle(
        uint32 round,
        bytes32 expectedHead,
        Cid calldata model,
        Cid calldata manifest,
        uint16 counted
    ) external {
        uint16 aggregator = _requireRole(_AGGREGATOR).id;
        _requireOpen(round);
        _requireComplete(round, expectedHead);
        if (counted < _state.quorum) revert QuorumNotMet(counted, _state.quorum);
        if (counted > _state.recorded) revert CountedExceedsRecorded(counted, _state.recorded);
        _requireCid(model);
        _requireCid(manifest);

        uint16 approvals = _state.approvals;
        _state.isOpen = false;
        _rounds[round] = Round({
            status: approvals == 0 ? Status.Released : Status.Settled,
            approvalsNeeded: approvals,
            approvals: 0,
            rejections: 0,
            model: model
        });
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.RoundSettled,
                round,
                aggregator,
                model,
                manifest,
                counted,
                block.number,
                block.timestamp
            )
        );
        emit RoundSettled(entry, round, aggregator, model, manifest, counted);
    }

    /// @inheritdoc IFederatedLedger
    function abort(uint32 round, bytes32 expectedHead, AbortReason reason, Cid calldata manifest) external {
        uint16 aggregator = _requireRole(_AGGREGATOR).id;
        _requireOpen(round);
        if (reason == AbortReason.None) revert AbortReasonMissing();
        if (reason == AbortReason.Quorum) {
            _requireComplete(round, expectedHead);
            _requireCid(manifest);
        } else if (manifest.digest != 0 || manifest.codec != 0) {
            revert CidInvalid(manifest.digest, manifest.codec);
        }

        _state.isOpen = false;
        _rounds[round].status = Status.Aborted;
        uint64 entry = _extend(
            abi.encode(
                head, Kind.RoundAborted, round, aggregator, reason, manifest, block.number, block.timestamp
            )
        );
        emit RoundAborted(entry, round, aggregator, reason, manifest);
    }

    /// @inheritdoc IFederatedLedger
    function attest(uint32 round, bool approve, Cid calldata report) external {
        Member memory auditor = _requireRole(_AUDITOR);
        Round storage settled = _rounds[round];
        if (round == 0 || (settled.status != Status.Settled && settled.status != Status.Released)) {
            revert RoundNotSettled(round);
        }
        if (auditor.since >= round) revert MemberNotEligible(auditor.id, round);
        if (_attested[round][auditor.id]) revert AttestationAlreadyRecorded(round, auditor.id);
        _requireCid(report);

        _attested[round][auditor.id] = true;
        if (approve) settled.approvals++;
        else settled.rejections++;
        if (settled.approvals >= settled.approvalsNeeded && settled.rejections == 0) {
            settled.status = Status.Released;
        }
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.AttestationRecorded,
                round,
                auditor.id,
                approve,
                report,
                block.number,
                block.timestamp
            )
        );
        emit AttestationRecorded(entry, round, auditor.id, approve, report);
    }

    // -------------------------------------------------------------------- views

    /// @inheritdoc IFederatedLedger
    function entryCount() external view returns (uint64) {
        return _state.entries;
    }

    /// @inheritdoc IFederatedLedger
    function charter() external view returns (Cid memory) {
        return _charter;
    }

    /// @inheritdoc IFederatedLedger
    function latestRound() external view returns (uint32) {
        return _state.round;
    }

    /// @inheritdoc IFederatedLedger
    function memberOf(address account) external view returns (Member memory) {
        return _members[account];
    }

    /// @inheritdoc IFederatedLedger
    function roundOf(uint32 round) external view returns (Round memory known) {
        known = _rounds[round];
        if (round == _state.round && _state.isOpen) {
            known.status = Status.Open;
            known.approvalsNeeded = _state.approvals;
        }
    }

    // ------------------------------------------------------------------ private

    /// @dev Folds one entry into the head and returns the entry's index, counted from 0.
    function _extend(bytes memory preimage) private returns (uint64 entry) {
        head = keccak256(preimage);
        entry = _state.entries++;
    }

    function _requireGovernor() private view {
        if (msg.sender != governor) revert GovernorOnly(msg.sender);
    }

    function _requireRole(uint8 role) private view returns (Member memory member) {
        member = _members[msg.sender];
        if (member.id == 0) revert MemberUnknown(msg.sender);
        if (member.roles & role == 0) revert MemberRoleMissing(member.id, role);
    }

    function _requireOpen(uint32 round) private view {
        if (!_state.isOpen || _state.round != round) revert RoundNotOpen(round);
    }

    /// @dev No update can follow, and the caller has seen every entry.
    function _requireComplete(uint32 round, bytes32 expectedHead) private view {
        if (block.timestamp <= _state.deadline && _state.recorded < _state.eligible) {
            revert RoundStillRunning(round, _state.deadline);
        }
        if (head != expectedHead) revert HeadMoved(expectedHead, head);
    }

    function _requireCid(Cid calldata cid) private pure {
        if (cid.digest == 0 || (cid.codec != _RAW && cid.codec != _DAG_PB)) {
            revert CidInvalid(cid.digest, cid.codec);
        }
    }
}
