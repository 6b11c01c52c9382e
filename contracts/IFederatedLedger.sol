// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title The interface of a fedledger ledger: its facts, entries (events), refusals (errors) and calls.
/// @notice Every change of state is one entry. The contract folds each entry into one running hash,
/// `head = keccak256(abi.encode(head, kind, fields…, block.number, block.timestamp))`, in the order of the
/// event's fields without `entry`, starting from
/// `keccak256(abi.encode(VERSION, chain id, address(this), governor, charter))`.
/// Whoever knows a head can therefore check that a list of entries is complete and untouched.
interface IFederatedLedger {
    /// @notice The name of a blob: an IPFS CIDv1 with sha2-256.
    /// @param digest The 32-byte sha2-256 digest.
    /// @param codec 0x55 (raw, up to 1 MiB) or 0x70 (dag-pb, larger files). Both zero: no blob.
    struct Cid {
        bytes32 digest;
        uint8 codec;
    }

    /// @param id Stable number from 1; 0 means that the account is not a member.
    /// @param roles Bits: 1 participant, 2 aggregator, 4 auditor.
    /// @param since The newest round when the member was admitted: it acts in later rounds only.
    /// @param lastRound The newest round in which the member posted an update.
    struct Member {
        uint16 id;
        uint8 roles;
        uint32 since;
        uint32 lastRound;
    }

    /// @notice A round after its settlement. Round 0 stands for the genesis model.
    struct Round {
        Status status;
        uint16 approvalsNeeded;
        uint16 approvals;
        uint16 rejections;
        Cid model;
    }

    enum Status {
        None,
        Open,
        Settled,
        Released,
        Aborted
    }

    enum AbortReason {
        None,
        Quorum,
        Cancelled
    }

    /// @notice The number of an entry's kind, as it enters the head.
    enum Kind {
        None,
        MemberAdmitted,
        GenesisRecorded,
        RoundOpened,
        UpdateRecorded,
        RoundSettled,
        RoundAborted,
        AttestationRecorded
    }

    // ------------------------------------------------------------------ entries

    /// @notice The governor admitted a member.
    event MemberAdmitted(uint64 indexed entry, uint16 member, address account, uint8 roles, bytes32 name);
    /// @notice The governor recorded the model that the first round builds on.
    event GenesisRecorded(uint64 indexed entry, Cid model);
    /// @notice An aggregator opened a round; `base` is the model of `baseRound`.
    event RoundOpened(
        uint64 indexed entry,
        uint32 indexed round,
        uint16 aggregator,
        Cid plan,
        uint32 baseRound,
        Cid base,
        uint40 deadline,
        uint16 quorum,
        uint16 approvals
    );
    /// @notice A participant posted its update.
    event UpdateRecorded(
        uint64 indexed entry, uint32 indexed round, uint16 indexed member, Cid update, uint64 weight
    );
    /// @notice An aggregator settled the round.
    event RoundSettled(
        uint64 indexed entry, uint32 indexed round, uint16 aggregator, Cid model, Cid manifest, uint16 counted
    );
    /// @notice An aggregator ended the round without a model; `manifest` says why, if the reason is the quorum.
    event RoundAborted(
        uint64 indexed entry, uint32 indexed round, uint16 aggregator, AbortReason reason, Cid manifest
    );
    /// @notice An auditor gave its verdict on a settled model.
    event AttestationRecorded(
        uint64 indexed entry, uint32 indexed round, uint16 auditor, bool approve, Cid report
    );

    // ----------------------------------------------------------------- refusals

    error GovernorOnly(address caller);
    error MemberUnknown(address caller);
    error MemberRoleMissing(uint16 member, uint8 role);
    error MemberNotEligible(uint16 member, uint32 round);
    error MemberAccountZero();
    error MemberAccountTaken(address account);
    error MemberRolesInvalid(uint8 roles);
    error MemberNameMissing();
    error CidInvalid(bytes32 digest, uint8 codec);
    error GenesisAlreadyRecorded();
    error BaseNotReleased(uint32 baseRound);
    error WindowInvalid();
    error QuorumInvalid(uint16 quorum, uint16 participants);
    error ApprovalsInvalid(uint16 approvals, uint16 auditors);
    error RoundStillOpen(uint32 round);
    error RoundNotOpen(uint32 round);
    error RoundClosed(uint32 round, uint40 deadline);
    error RoundStillRunning(uint32 round, uint40 deadline);
    error RoundNotSettled(uint32 round);
    error WeightInvalid();
    error UpdateAlreadyRecorded(uint32 round, uint16 member);
    error HeadMoved(bytes32 expected, bytes32 actual);
    error QuorumNotMet(uint16 counted, uint16 quorum);
    error CountedExceedsRecorded(uint16 counted, uint16 recorded);
    error AbortReasonMissing();
    error AttestationAlreadyRecorded(uint32 round, uint16 auditor);

    // -------------------------------------------------------------------- calls

    /// @notice Admits a member under the next member id.
    /// @dev Requires: caller is the governor; `account` is not zero and not a member's; `roles` within 1..7;
    /// `name` not empty. Emits {MemberAdmitted}.
    /// @param name UTF-8, padded with zeros to 32 bytes.
    /// @return member The new member's id.
    function admit(address account, uint8 roles, bytes32 name) external returns (uint16 member);

    /// @notice Records the genesis model, once.
    /// @dev Requires: caller is the governor; no genesis yet; a valid CID. Emits {GenesisRecorded}.
    function recordGenesis(Cid calldata model) external;

    /// @notice Opens the next round. Participants of this moment may post until `block.timestamp + window`.
    /// @dev Requires: caller is an aggregator; no open round; `baseRound` is 0 (genesis) or a released round;
    /// `window` above 0; `quorum` within 1..participants; `approvals` not above the number of auditors.
    /// Emits {RoundOpened}.
    /// @param window In seconds.
    /// @param quorum The fewest counted updates that a settlement needs.
    /// @param approvals The auditors' approvals that release the settled model.
    /// @return round The number of the new round.
    function open(Cid calldata plan, uint32 baseRound, uint32 window, uint16 quorum, uint16 approvals)
        external
        returns (uint32 round);

    /// @notice Records the hash of the caller's update.
    /// @dev Requires: caller is a participant admitted before the round opened; `round` is open and its deadline
    /// not passed; no update of this member in this round yet; `weight` above 0; a valid CID.
    /// Emits {UpdateRecorded}. Costs the same gas whatever the number of rounds and members.
    /// @param weight The number of examples that the update was trained on, as its member says.
    function submit(uint32 round, Cid calldata update, uint64 weight) external;

    /// @notice Ends the open round with a model.
    /// @dev Requires: caller is an aggregator; `round` is open; the deadline has passed or every eligible participant
    /// has posted; `expectedHead` is the head, so the settlement saw every entry; `counted` within quorum..recorded
    /// updates; valid CIDs. Emits {RoundSettled}. The model is released at once if the round needs no approvals.
    function settle(
        uint32 round,
        bytes32 expectedHead,
        Cid calldata model,
        Cid calldata manifest,
        uint16 counted
    ) external;

    /// @notice Ends the open round without a model.
    /// @dev Requires: caller is an aggregator; `round` is open; a reason. For {AbortReason.Quorum} the conditions of
    /// {settle} on time and head hold too, and a manifest says what became of each update; for
    /// {AbortReason.Cancelled} there is no manifest and no condition on time. Emits {RoundAborted}.
    function abort(uint32 round, bytes32 expectedHead, AbortReason reason, Cid calldata manifest) external;

    /// @notice Records the caller's verdict on a settled model, once. A model is released when it has the approvals
    /// that its round needs and no rejection; a later rejection is recorded and does not undo a release.
    /// @dev Requires: caller is an auditor admitted before the round opened; `round` was settled; no attestation of
    /// this auditor for it yet; a valid CID. Emits {AttestationRecorded}.
    function attest(uint32 round, bool approve, Cid calldata report) external;

    // -------------------------------------------------------------------- views

    /// @notice The hash over all entries so far.
    function head() external view returns (bytes32);

    /// @notice The number of entries so far.
    function entryCount() external view returns (uint64);

    /// @notice The account that admits members.
    function governor() external view returns (address);

    /// @notice The data-use agreement of this ledger.
    function charter() external view returns (Cid memory);

    /// @notice The newest round's number, 0 before the first.
    function latestRound() external view returns (uint32);

    /// @notice What the ledger knows of an account; all zero for a stranger.
    function memberOf(address account) external view returns (Member memory);

    /// @notice What the ledger knows of a round; round 0 holds the genesis model.
    function roundOf(uint32 round) external view returns (Round memory);
}
