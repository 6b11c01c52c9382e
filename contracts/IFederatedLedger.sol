// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title The interface of a fedledger ledger: its facts, entries (events), refusals (errors) and calls.
/// @notice Every change of state is one entry, which is one event. The contract folds each into one running hash,
/// `head = keccak256(abi.encode(head, kind, fields…, block.number, block.timestamp))`, where `kind` is the event's
/// topic and the fields are its data, byte for byte; it starts from
/// `keccak256(abi.encode(VERSION, chain id, address(this), governor, charter))`.
/// Whoever knows a head can therefore check that a list of logs is complete and untouched.
/// @dev Whatever changes a member (roles, account, charter) acts on rounds that are opened later.
interface IFederatedLedger {
    /// @notice The name of a blob: an IPFS CIDv1 with sha2-256.
    /// @param digest The 32-byte sha2-256 digest.
    /// @param codec 0x55 (raw, up to 1 MiB) or 0x70 (dag-pb, larger files). Both zero: no blob.
    struct Cid {
        bytes32 digest;
        uint8 codec;
    }

    /// @notice What the ledger knows of one account of a member.
    /// @param id The member's stable number, from 1; 0 means that the account is not a member's.
    /// @param roles Bits: 1 participant, 2 aggregator, 4 auditor; 0 is suspended. In rounds after `rolesSince`.
    /// @param rolesBefore The same, in rounds up to `rolesSince`.
    /// @param rolesSince The newest round when the roles were changed.
    /// @param since The account acts in rounds after this one.
    /// @param until The account acts in rounds up to this one: the newest round when another account took its place.
    /// @param accepted The version of the charter that the member accepted last; 0 for none.
    /// @param acceptances How many times it accepted a charter: the nonce of the next signed acceptance.
    struct Member {
        uint16 id;
        uint8 roles;
        uint8 rolesBefore;
        uint32 rolesSince;
        uint32 since;
        uint32 until;
        uint16 accepted;
        uint16 acceptances;
    }

    /// @notice What a round needs, fixed at its opening.
    /// @param window Seconds in which the round takes updates.
    /// @param grace Seconds after the deadline in which only aggregators can end the round; then anyone can abort it.
    /// @param quorum The fewest counted updates that a settlement needs.
    /// @param approvals The approvals that release the settled model.
    /// @param rejections The most rejections with which it can be released.
    /// @param participantsAttest Whether participants may attest too, beside auditors.
    struct Terms {
        uint32 window;
        uint32 grace;
        uint16 quorum;
        uint16 approvals;
        uint16 rejections;
        bool participantsAttest;
    }

    /// @notice A round. Round 0 stands for the genesis model.
    /// @param charterVersion The charter under which it was opened.
    /// @param eligible Participants that could post when it opened.
    struct Round {
        Status status;
        bool participantsAttest;
        uint16 approvalsNeeded;
        uint16 approvals;
        uint16 rejectionsAllowed;
        uint16 rejections;
        uint16 charterVersion;
        uint16 quorum;
        uint16 eligible;
        uint32 grace;
        Cid model;
    }

    /// @notice An update that its member signed and that anyone may carry to the chain.
    /// @param keyBlob Digest of the update's key blob; zero if it is not sealed.
    /// @param r The signature, in the compact form of EIP-2098.
    /// @param vs The signature's second half.
    struct SignedUpdate {
        Cid update;
        bytes32 keyBlob;
        uint64 weight;
        bytes32 r;
        bytes32 vs;
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
        Cancelled,
        Expired
    }

    enum ErasureReason {
        None,
        Request,
        Withdrawal,
        Mistake
    }

    // ------------------------------------------------------------------ entries

    /// @notice The governor offered governance to `account`; to the zero account: took the offer back.
    event GovernanceOffered(address account);
    /// @notice The account to which governance was offered took it.
    event GovernanceTaken(address governor);
    /// @notice The governor put a new charter in force, for rounds opened later.
    event CharterChanged(uint16 version, Cid charter);
    /// @notice The governor admitted a member.
    event MemberAdmitted(uint16 member, address account, uint8 roles, bytes32 name);
    /// @notice The governor changed a member's roles, for rounds opened later; without any role it is suspended.
    event RolesChanged(uint16 member, uint8 roles);
    /// @notice A member accepted the charter and published its age public key (X25519) for sealed blobs.
    event CharterAccepted(uint16 member, Cid charter, bytes32 ageKey, address sender);
    /// @notice A member offered its place to another account of its own.
    event AccountOffered(uint16 member, address account);
    /// @notice That account took the member's place, for rounds opened later.
    event AccountTaken(uint16 member, address account);
    /// @notice The governor gave a member another account, for rounds opened later, because the old one was lost.
    event AccountReplaced(uint16 member, address account);
    /// @notice The governor recorded the model that the first round builds on.
    event GenesisRecorded(Cid model);
    /// @notice An aggregator opened a round; `base` is the model of `baseRound`.
    event RoundOpened(
        uint32 round,
        uint16 aggregator,
        Cid plan,
        uint32 baseRound,
        Cid base,
        uint40 deadline,
        uint32 grace,
        uint16 quorum,
        uint16 approvals,
        uint16 rejections,
        bool participantsAttest
    );
    /// @notice A participant's update was recorded; `sender` carried it, the participant itself or anyone else.
    event UpdateRecorded(uint32 round, uint16 member, Cid update, bytes32 keyBlob, uint64 weight, address sender);
    /// @notice An aggregator settled the round.
    event RoundSettled(uint32 round, uint16 aggregator, Cid model, Cid manifest, uint16 counted);
    /// @notice The round ended without a model; `manifest` says why, if the reason is the quorum. `aggregator` is 0
    /// where somebody else ended a round that had expired.
    event RoundAborted(uint32 round, uint16 aggregator, AbortReason reason, Cid manifest, address sender);
    /// @notice A member gave its verdict on a settled model.
    event AttestationRecorded(uint32 round, uint16 member, bool approve, Cid report);
    /// @notice A member, or the governor, says that the key blob or the blob with this digest, of the member's update
    /// in `round`, is to be erased everywhere. The hash stays.
    event ErasureRecorded(uint32 round, uint16 member, bytes32 digest, ErasureReason reason, address sender);
    /// @notice A member that can open sealed updates opened those of rounds `first` to `last` for member `to`, which was
    /// admitted later, say: `keys` is the blob with their keys, for `to` alone.
    event GrantRecorded(uint16 member, uint16 to, uint32 first, uint32 last, Cid keys);

    // ----------------------------------------------------------------- refusals

    error GovernorOnly(address caller);
    error GovernanceNotOffered(address caller);
    error MemberUnknown(address caller);
    error MemberIdUnknown(uint16 member);
    error MemberRoleMissing(uint16 member, uint8 role);
    error MemberNotEligible(uint16 member, uint32 round);
    error MemberAccountZero();
    error MemberAccountTaken(address account);
    error MemberRolesInvalid(uint8 roles);
    error MemberNameMissing();
    error AccountNotOffered(uint16 member, address caller);
    error AccountOutdated(uint16 member, uint32 until);
    error AgeKeyMissing();
    error CharterNotAccepted(uint16 member, uint16 version);
    error CharterOutdated(bytes32 digest, bytes32 current);
    error SignatureInvalid(uint256 index);
    error CidInvalid(bytes32 digest, uint8 codec);
    error GenesisAlreadyRecorded();
    error BaseNotReleased(uint32 baseRound);
    error WindowInvalid();
    error QuorumInvalid(uint16 quorum, uint16 participants);
    error ApprovalsInvalid(uint16 approvals, uint16 attesters);
    error RoundStillOpen(uint32 round);
    error RoundNotOpen(uint32 round);
    error RoundClosed(uint32 round, uint40 deadline);
    error RoundStillRunning(uint32 round, uint40 deadline);
    error RoundNotExpired(uint32 round, uint40 expiry);
    error RoundNotSettled(uint32 round);
    error RoundUnknown(uint32 round);
    error WeightInvalid();
    error UpdateAlreadyRecorded(uint32 round, uint16 member);
    error HeadMoved(bytes32 expected, bytes32 actual);
    error QuorumNotMet(uint16 counted, uint16 quorum);
    error CountedExceedsRecorded(uint16 counted, uint16 recorded);
    error AbortReasonMissing();
    error AttestationAlreadyRecorded(uint32 round, uint16 member);
    error ErasureReasonMissing();
    error DigestMissing();
    error OwnerOrGovernorOnly(address caller);
    error RoundsInvalid(uint32 first, uint32 last);

    // --------------------------------------------------------------- governance

    /// @notice Offers governance to another account, which must take it; the zero account takes the offer back.
    /// @dev Requires: caller is the governor. Emits {GovernanceOffered}.
    function offerGovernance(address account) external;

    /// @notice Takes the governance that was offered to the caller.
    /// @dev Requires: it was offered. Emits {GovernanceTaken}.
    function takeGovernance() external;

    /// @notice Puts a new charter in force. Who has not accepted it takes no part in rounds opened later.
    /// @dev Requires: caller is the governor; a valid CID. Emits {CharterChanged}.
    function changeCharter(Cid calldata newCharter) external;

    /// @notice Admits a member under the next member id. It acts once it has accepted the charter.
    /// @dev Requires: caller is the governor; `account` is not zero and was never a member's; `roles` within 1..7;
    /// `name` not empty. Emits {MemberAdmitted}.
    /// @param name UTF-8, padded with zeros to 32 bytes.
    /// @return member The new member's id.
    function admit(address account, uint8 roles, bytes32 name) external returns (uint16 member);

    /// @notice Changes a member's roles, for rounds opened later; no role at all suspends it.
    /// @dev Requires: caller is the governor; the member exists; `roles` within 0..7. Emits {RolesChanged}.
    function changeRoles(uint16 member, uint8 roles) external;

    /// @notice Gives a member another account, for rounds opened later, where the old one was lost.
    /// @dev Requires: caller is the governor; the member exists; `account` is not zero and was never a member's.
    /// Emits {AccountReplaced}.
    function replaceAccount(uint16 member, address account) external;

    /// @notice Records the genesis model, once.
    /// @dev Requires: caller is the governor; no genesis yet; a valid CID. Emits {GenesisRecorded}.
    function recordGenesis(Cid calldata model) external;

    // --------------------------------------------------------------- membership

    /// @notice Accepts the charter in force, and publishes the caller's age public key; again, to publish another key.
    /// @dev Requires: caller is a member's present account; `accepted` is the charter in force; a key.
    /// Emits {CharterAccepted}.
    function accept(Cid calldata accepted, bytes32 ageKey) external;

    /// @notice The same, for a member that signed it; anyone may carry it to the chain.
    /// @dev The signature is over `Acceptance(bytes32 digest,uint8 codec,bytes32 ageKey,uint16 nonce)` (EIP-712), the
    /// nonce being the member's `acceptances`. Requires what {accept} requires of the signer, and that a member signed it.
    /// Emits {CharterAccepted}.
    function acceptSigned(Cid calldata accepted, bytes32 ageKey, uint16 nonce, bytes32 r, bytes32 vs) external;

    /// @notice Offers the caller's place to another account of its own, which must take it; the zero account takes
    /// the offer back.
    /// @dev Requires: caller is a member's present account; `account` was never a member's. Emits {AccountOffered}.
    function offerAccount(address account) external;

    /// @notice Takes the place of a member whose present account offered it to the caller.
    /// @dev Requires: it was offered; caller was never a member's account. Emits {AccountTaken}.
    function takeAccount(uint16 member) external;

    // ------------------------------------------------------------------- rounds

    /// @notice Opens the next round. Participants of this moment may post until `block.timestamp + window`.
    /// @dev Requires: caller is an aggregator; no open round; `baseRound` is 0 (genesis) or a released round;
    /// `window` above 0; `quorum` within 1..participants; `approvals` not above the number of members that may attest.
    /// Emits {RoundOpened}.
    /// @return round The number of the new round.
    function open(Cid calldata plan, uint32 baseRound, Terms calldata terms) external returns (uint32 round);

    /// @notice Records the hash of the caller's update.
    /// @dev Requires: caller is a participant since before the round opened, under its charter; `round` is open and its
    /// deadline not passed; no update of this member in this round yet; `weight` above 0; a valid CID.
    /// Emits {UpdateRecorded}. Costs the same gas whatever the number of rounds and members.
    /// @param keyBlob Digest of the update's key blob; zero if it is not sealed.
    /// @param weight The number of examples that the update was trained on, as its member says.
    function postUpdate(uint32 round, Cid calldata update, bytes32 keyBlob, uint64 weight) external;

    /// @notice Records updates that their members signed. One of a member that has posted in this round is skipped.
    /// @dev A signature is over `Update(uint32 round,bytes32 openingHead,bytes32 digest,uint8 codec,bytes32 keyBlob,
    /// uint64 weight)` (EIP-712), `openingHead` being the head right after the round's opening. Requires for each what
    /// {postUpdate} requires of the signer, and {SignatureInvalid} with its index where no member signed it: one such fails
    /// the whole batch. Emits {UpdateRecorded} for each that is not skipped.
    function relayUpdates(uint32 round, SignedUpdate[] calldata updates) external;

    /// @notice Ends the open round with a model.
    /// @dev Requires: caller is an aggregator; `round` is open; the deadline has passed or every eligible participant
    /// has posted; `expectedHead` is the head, so the settlement saw every entry; `counted` within quorum..recorded
    /// updates; valid CIDs. Emits {RoundSettled}. The model is released at once if the round needs no approvals.
    function settle(uint32 round, bytes32 expectedHead, Cid calldata model, Cid calldata manifest, uint16 counted)
        external;

    /// @notice Ends the open round without a model.
    /// @dev Requires: `round` is open; a reason. For {AbortReason.Quorum}: caller is an aggregator, the conditions of
    /// {settle} on time and head hold, and a manifest says what became of each update. For {AbortReason.Cancelled}:
    /// caller is an aggregator; no manifest. For {AbortReason.Expired}: anyone, once deadline and grace have passed; no
    /// manifest. Emits {RoundAborted}.
    function abort(uint32 round, bytes32 expectedHead, AbortReason reason, Cid calldata manifest) external;

    /// @notice Records the caller's verdict on a settled model, once. A model is released when it has the approvals
    /// that its round needs and no more rejections than it allows; a later rejection is recorded and does not undo a
    /// release.
    /// @dev Requires: caller is an auditor (or a participant, if the round says so) since before the round opened, under
    /// its charter; `round` was settled; no attestation of this member for it yet; a valid CID.
    /// Emits {AttestationRecorded}.
    function attest(uint32 round, bool approve, Cid calldata report) external;

    /// @notice Records that a blob of a member's update is to be erased. The hash stays, and so does the entry.
    /// @dev Requires: caller is that member's present account or the governor; the member exists; `round` was opened
    /// and is not open; a digest; a reason. Emits {ErasureRecorded}.
    function erase(uint32 round, uint16 member, bytes32 digest, ErasureReason reason) external;

    /// @notice Records that the caller opened the sealed updates of rounds `first` to `last` for member `to`.
    /// @dev Requires: caller is a member's present account, and that member is an aggregator or an auditor at present;
    /// member `to` exists; `first` and `last` within 1..newest round and in order; `last` is not open; a valid CID.
    /// Emits {GrantRecorded}.
    /// @param keys The blob with the keys of those updates, sealed for `to`.
    function grant(uint16 to, uint32 first, uint32 last, Cid calldata keys) external;

    // -------------------------------------------------------------------- views

    /// @notice The hash over all entries so far.
    function head() external view returns (bytes32);

    /// @notice The head right after the newest round's opening: signed updates name it.
    function openingHead() external view returns (bytes32);

    /// @notice What the first head binds, beside chain and address: the first governor and charter; and the block of the
    /// deployment, after which all entries come.
    // slither-disable-next-line shadowing-local (the results are called what they are; no getter is called here)
    function genesis() external view returns (address governor, Cid memory charter, uint64 blockNumber);

    /// @notice The number of entries so far.
    function entryCount() external view returns (uint64);

    /// @notice The account that governs.
    function governor() external view returns (address);

    /// @notice The data-use agreement in force, and its version, from 1.
    function charter() external view returns (Cid memory current, uint16 version);

    /// @notice The newest round's number, 0 before the first.
    function latestRound() external view returns (uint32);

    /// @notice The newest released round and its model; round 0 is the genesis model.
    function latestModel() external view returns (uint32 round, Cid memory model);

    /// @notice How many members there are: their ids are 1 to this.
    function memberCount() external view returns (uint16);

    /// @notice What the ledger knows of an account; all zero for a stranger.
    function memberOf(address account) external view returns (Member memory);

    /// @notice The present accounts of the members with ids `first` to `first + count - 1`, as far as there are any.
    function accountsOf(uint16 first, uint16 count) external view returns (address[] memory accounts);

    /// @notice What the ledger knows of a round; round 0 holds the genesis model.
    function roundOf(uint32 round) external view returns (Round memory);

    /// @notice The EIP-712 domain separator of signed updates and acceptances.
    function domainSeparator() external view returns (bytes32);
}
