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

    /// @dev Members with ids up to these have a bit in a slot that is written anyway.
    uint16 private constant _POSTED_BITS = 112;
    uint16 private constant _ATTESTED_BITS = 88;

    /// @dev Half the order of secp256k1: a signature with a higher s is the same signature in another form.
    uint256 private constant _HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    bytes32 private constant _DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant _UPDATE = keccak256(
        "Update(uint32 round,bytes32 openingHead,bytes32 digest,uint8 codec,bytes32 keys,uint64 weight)"
    );
    bytes32 private constant _ACCEPTANCE =
        keccak256("Acceptance(bytes32 digest,uint8 codec,bytes32 ageKey,uint16 nonce)");

    /// @dev All that changes with every update, beside the head, in one slot: an update's gas is constant.
    struct Newest {
        uint40 entries;
        uint32 round;
        uint40 deadline; // 0: the round has ended
        uint16 recorded;
        uint16 charterVersion; // under which the round was opened
        uint112 posted; // bit `id - 1`: that member has posted
    }

    struct Registry {
        address governor;
        uint16 members;
        uint16 participants; // not suspended, under the charter in force
        uint16 auditors; // the same
        uint16 charterVersion;
        uint32 latestReleased;
    }

    /// @dev {IFederatedLedger.Round} with a bitmap in the free bits; a settled round takes two slots.
    struct StoredRound {
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
        uint8 modelCodec;
        uint88 attested; // bit `id - 1`: that member has attested
        bytes32 modelDigest;
    }

    /// @inheritdoc IFederatedLedger
    bytes32 public head;
    /// @inheritdoc IFederatedLedger
    bytes32 public openingHead;
    Newest private _newest;
    Registry private _registry;
    Cid private _charter;
    address private _governanceOffer;
    mapping(address account => Member) private _members;
    mapping(uint16 member => address) private _accounts;
    mapping(uint16 member => address) private _offers;
    mapping(uint32 round => StoredRound) private _rounds;
    mapping(uint32 round => mapping(uint16 member => bool)) private _attestedAbove;

    constructor(Cid memory charter_) {
        _requireCid(charter_);
        _registry.governor = msg.sender;
        _registry.charterVersion = 1;
        _charter = charter_;
        head = keccak256(abi.encode(VERSION, block.chainid, address(this), msg.sender, charter_));
    }

    // --------------------------------------------------------------- governance

    /// @inheritdoc IFederatedLedger
    function offerGovernance(address account) external {
        _requireGovernor();
        _governanceOffer = account;
        uint64 entry =
            _extend(abi.encode(head, Kind.GovernanceOffered, account, block.number, block.timestamp));
        emit GovernanceOffered(entry, account);
    }

    /// @inheritdoc IFederatedLedger
    function takeGovernance() external {
        if (_governanceOffer != msg.sender) revert GovernanceNotOffered(msg.sender);
        _governanceOffer = address(0);
        _registry.governor = msg.sender;
        uint64 entry =
            _extend(abi.encode(head, Kind.GovernanceTaken, msg.sender, block.number, block.timestamp));
        emit GovernanceTaken(entry, msg.sender);
    }

    /// @inheritdoc IFederatedLedger
    function changeCharter(Cid calldata newCharter) external {
        _requireGovernor();
        _requireCid(newCharter);

        uint16 version = ++_registry.charterVersion;
        _registry.participants = 0;
        _registry.auditors = 0;
        _charter = newCharter;
        uint64 entry = _extend(
            abi.encode(head, Kind.CharterChanged, version, newCharter, block.number, block.timestamp)
        );
        emit CharterChanged(entry, version, newCharter);
    }

    /// @inheritdoc IFederatedLedger
    function admit(address account, uint8 roles, bytes32 name) external returns (uint16 member) {
        _requireGovernor();
        _requireNewAccount(account);
        if (roles == 0 || roles > _ALL_ROLES) revert MemberRolesInvalid(roles);
        if (name == 0) revert MemberNameMissing();

        member = ++_registry.members;
        Member storage admitted = _members[account];
        admitted.id = member;
        admitted.roles = roles;
        admitted.since = _newest.round;
        admitted.until = type(uint32).max;
        _accounts[member] = account;
        uint64 entry = _extend(
            abi.encode(
                head, Kind.MemberAdmitted, member, account, roles, name, block.number, block.timestamp
            )
        );
        emit MemberAdmitted(entry, member, account, roles, name);
    }

    /// @inheritdoc IFederatedLedger
    function changeRoles(uint16 member, uint8 roles) external {
        _requireGovernor();
        Member storage changed = _members[_presentAccount(member)];
        if (roles > _ALL_ROLES) revert MemberRolesInvalid(roles);

        uint32 round = _newest.round;
        if (changed.accepted == _registry.charterVersion) {
            _uncount(changed.roles);
            _count(roles);
        }
        // Two changes between the same rounds are one: what held before the first still holds up to here.
        if (changed.rolesSince != round) changed.rolesBefore = changed.roles;
        changed.roles = roles;
        changed.rolesSince = round;
        uint64 entry =
            _extend(abi.encode(head, Kind.RolesChanged, member, roles, block.number, block.timestamp));
        emit RolesChanged(entry, member, roles);
    }

    /// @inheritdoc IFederatedLedger
    function replaceAccount(uint16 member, address account) external {
        _requireGovernor();
        address present = _presentAccount(member);
        _requireNewAccount(account);

        _move(member, present, account);
        uint64 entry =
            _extend(abi.encode(head, Kind.AccountReplaced, member, account, block.number, block.timestamp));
        emit AccountReplaced(entry, member, account);
    }

    /// @inheritdoc IFederatedLedger
    function recordGenesis(Cid calldata model) external {
        _requireGovernor();
        if (_rounds[0].status != Status.None) revert GenesisAlreadyRecorded();
        _requireCid(model);

        _rounds[0].status = Status.Released;
        _rounds[0].modelCodec = model.codec;
        _rounds[0].modelDigest = model.digest;
        uint64 entry =
            _extend(abi.encode(head, Kind.GenesisRecorded, model, block.number, block.timestamp));
        emit GenesisRecorded(entry, model);
    }

    // --------------------------------------------------------------- membership

    /// @inheritdoc IFederatedLedger
    function accept(Cid calldata accepted, bytes32 ageKey) external {
        if (_members[msg.sender].id == 0) revert MemberUnknown(msg.sender);
        _accept(msg.sender, accepted, ageKey);
    }

    /// @inheritdoc IFederatedLedger
    function acceptSigned(Cid calldata accepted, bytes32 ageKey, uint16 nonce, bytes32 r, bytes32 vs)
        external
    {
        address signer = _signer(
            domainSeparator(),
            keccak256(abi.encode(_ACCEPTANCE, accepted.digest, accepted.codec, ageKey, nonce)),
            r,
            vs
        );
        if (_members[signer].id == 0 || _members[signer].acceptances != nonce) revert SignatureInvalid(0);
        _accept(signer, accepted, ageKey);
    }

    /// @inheritdoc IFederatedLedger
    function offerAccount(address account) external {
        uint16 member = _requirePresent(msg.sender);
        if (account != address(0)) _requireNewAccount(account);

        _offers[member] = account;
        uint64 entry =
            _extend(abi.encode(head, Kind.AccountOffered, member, account, block.number, block.timestamp));
        emit AccountOffered(entry, member, account);
    }

    /// @inheritdoc IFederatedLedger
    function takeAccount(uint16 member) external {
        if (_offers[member] != msg.sender) revert AccountNotOffered(member, msg.sender);
        _requireNewAccount(msg.sender);

        _move(member, _accounts[member], msg.sender);
        uint64 entry =
            _extend(abi.encode(head, Kind.AccountTaken, member, msg.sender, block.number, block.timestamp));
        emit AccountTaken(entry, member, msg.sender);
    }

    // ------------------------------------------------------------------- rounds

    /// @inheritdoc IFederatedLedger
    function open(Cid calldata plan, uint32 baseRound, Terms calldata terms) external returns (uint32 round) {
        Registry memory registry = _registry;
        Newest memory newest = _newest;
        round = newest.round + 1;
        uint16 aggregator = _callerStanding(round, registry.charterVersion, _AGGREGATOR).id;
        if (newest.deadline != 0) revert RoundStillOpen(newest.round);
        StoredRound storage base = _rounds[baseRound];
        if (base.status != Status.Released) revert BaseNotReleased(baseRound);
        if (terms.window == 0) revert WindowInvalid();
        if (terms.quorum == 0 || terms.quorum > registry.participants) {
            revert QuorumInvalid(terms.quorum, registry.participants);
        }
        uint256 attesters =
            uint256(registry.auditors) + (terms.participantsAttest ? registry.participants : 0);
        if (terms.approvals > attesters) revert ApprovalsInvalid(terms.approvals, attesters);
        _requireCid(plan);

        uint40 deadline = uint40(block.timestamp) + terms.window;
        bytes32 opened = keccak256(
            bytes.concat(
                abi.encode(head, Kind.RoundOpened, round, aggregator, plan, baseRound),
                abi.encode(base.modelDigest, base.modelCodec, deadline, terms.grace, terms.quorum),
                abi.encode(
                    terms.approvals,
                    terms.rejections,
                    terms.participantsAttest,
                    block.number,
                    block.timestamp
                )
            )
        );
        head = opened;
        openingHead = opened;
        _newest = Newest({
            entries: newest.entries + 1,
            round: round,
            deadline: deadline,
            recorded: 0,
            charterVersion: registry.charterVersion,
            posted: 0
        });
        StoredRound storage stored = _rounds[round];
        stored.status = Status.Open;
        stored.participantsAttest = terms.participantsAttest;
        stored.approvalsNeeded = terms.approvals;
        stored.rejectionsAllowed = terms.rejections;
        stored.charterVersion = registry.charterVersion;
        stored.quorum = terms.quorum;
        stored.eligible = registry.participants;
        stored.grace = terms.grace;
        emit RoundOpened(
            newest.entries,
            round,
            aggregator,
            plan,
            baseRound,
            Cid(base.modelDigest, base.modelCodec),
            deadline,
            terms.grace,
            terms.quorum,
            terms.approvals,
            terms.rejections,
            terms.participantsAttest
        );
    }

    /// @inheritdoc IFederatedLedger
    function submit(uint32 round, Cid calldata update, bytes32 keys, uint64 weight) external {
        Newest memory newest = _requireOpen(round);
        if (block.timestamp > newest.deadline) revert RoundClosed(round, newest.deadline);
        Member memory member = _callerStanding(round, newest.charterVersion, _PARTICIPANT);
        if (!_post(newest, member, msg.sender)) revert UpdateAlreadyRecorded(round, member.id);
        head = _record(head, newest, member.id, update, keys, weight);
        _newest = newest;
    }

    /// @inheritdoc IFederatedLedger
    function submitSigned(uint32 round, SignedUpdate[] calldata updates) external returns (uint16 recorded) {
        Newest memory newest = _requireOpen(round);
        if (block.timestamp > newest.deadline) revert RoundClosed(round, newest.deadline);
        uint16 before = newest.recorded;
        bytes32 domain = domainSeparator();
        bytes32 opening = openingHead;
        bytes32 running = head;
        for (uint256 index = 0; index < updates.length; ++index) {
            uint256 free;
            // The memory of one turn is used again in the next: its cost stays linear in the number of updates.
            assembly ("memory-safe") {
                free := mload(0x40)
            }
            SignedUpdate memory signed = updates[index];
            address signer = _signer(
                domain,
                keccak256(
                    abi.encode(_UPDATE, round, opening, signed.update, signed.keys, signed.weight)
                ),
                signed.r,
                signed.vs
            );
            Member memory member = _members[signer];
            if (member.id == 0) revert SignatureInvalid(index);
            _requireStanding(member, round, newest.charterVersion, _PARTICIPANT);
            if (_post(newest, member, signer)) {
                running = _record(running, newest, member.id, signed.update, signed.keys, signed.weight);
            }
            assembly ("memory-safe") {
                mstore(0x40, free)
            }
        }
        head = running;
        _newest = newest;
        return newest.recorded - before;
    }

    /// @inheritdoc IFederatedLedger
    function settle(
        uint32 round,
        bytes32 expectedHead,
        Cid calldata model,
        Cid calldata manifest,
        uint16 counted
    ) external {
        Newest memory newest = _requireOpen(round);
        uint16 aggregator = _callerStanding(round, newest.charterVersion, _AGGREGATOR).id;
        StoredRound storage stored = _rounds[round];
        _requireComplete(newest, stored.eligible, expectedHead);
        if (counted < stored.quorum) revert QuorumNotMet(counted, stored.quorum);
        if (counted > newest.recorded) revert CountedExceedsRecorded(counted, newest.recorded);
        _requireCid(model);
        _requireCid(manifest);

        _newest.deadline = 0;
        stored.modelDigest = model.digest;
        stored.modelCodec = model.codec;
        stored.status = Status.Settled;
        if (stored.approvalsNeeded == 0) _release(round, stored);
        uint64 entry = _extend(
            abi.encode(
                expectedHead,
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
        Newest memory newest = _requireOpen(round);
        StoredRound storage stored = _rounds[round];
        uint16 aggregator = 0;
        if (reason == AbortReason.None) revert AbortReasonMissing();
        if (reason == AbortReason.Expired) {
            uint40 expiry = newest.deadline + stored.grace;
            if (block.timestamp <= expiry) revert RoundNotExpired(round, expiry);
        } else {
            aggregator = _callerStanding(round, newest.charterVersion, _AGGREGATOR).id;
        }
        if (reason == AbortReason.Quorum) {
            _requireComplete(newest, stored.eligible, expectedHead);
            _requireCid(manifest);
        } else if (manifest.digest != 0 || manifest.codec != 0) {
            revert CidInvalid(manifest.digest, manifest.codec);
        }

        _newest.deadline = 0;
        stored.status = Status.Aborted;
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.RoundAborted,
                round,
                aggregator,
                reason,
                manifest,
                msg.sender,
                block.number,
                block.timestamp
            )
        );
        emit RoundAborted(entry, round, aggregator, reason, manifest, msg.sender);
    }

    /// @inheritdoc IFederatedLedger
    function attest(uint32 round, bool approve, Cid calldata report) external {
        StoredRound storage stored = _rounds[round];
        Status status = stored.status;
        if (round == 0 || (status != Status.Settled && status != Status.Released)) {
            revert RoundNotSettled(round);
        }
        uint8 roles = stored.participantsAttest ? _AUDITOR | _PARTICIPANT : _AUDITOR;
        uint16 member = _callerStanding(round, stored.charterVersion, roles).id;
        if (_hasAttested(round, stored, member)) revert AttestationAlreadyRecorded(round, member);
        _requireCid(report);

        if (member <= _ATTESTED_BITS) stored.attested |= uint88(1) << (member - 1);
        else _attestedAbove[round][member] = true;
        if (approve) stored.approvals++;
        else stored.rejections++;
        if (
            status == Status.Settled && stored.approvals >= stored.approvalsNeeded
                && stored.rejections <= stored.rejectionsAllowed
        ) _release(round, stored);
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.AttestationRecorded,
                round,
                member,
                approve,
                report,
                block.number,
                block.timestamp
            )
        );
        emit AttestationRecorded(entry, round, member, approve, report);
    }

    /// @inheritdoc IFederatedLedger
    function erase(uint32 round, uint16 member, bytes32 digest, ErasureReason reason) external {
        if (msg.sender != _presentAccount(member) && msg.sender != _registry.governor) {
            revert OwnerOrGovernorOnly(msg.sender);
        }
        if (round == 0 || round > _newest.round) revert RoundUnknown(round);
        if (round == _newest.round && _newest.deadline != 0) revert RoundStillOpen(round);
        if (digest == 0) revert DigestMissing();
        if (reason == ErasureReason.None) revert ErasureReasonMissing();

        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.ErasureRecorded,
                round,
                member,
                digest,
                reason,
                msg.sender,
                block.number,
                block.timestamp
            )
        );
        emit ErasureRecorded(entry, round, member, digest, reason, msg.sender);
    }

    // -------------------------------------------------------------------- views

    /// @inheritdoc IFederatedLedger
    function entryCount() external view returns (uint64) {
        return _newest.entries;
    }

    /// @inheritdoc IFederatedLedger
    function governor() external view returns (address) {
        return _registry.governor;
    }

    /// @inheritdoc IFederatedLedger
    function charter() external view returns (Cid memory current, uint16 version) {
        return (_charter, _registry.charterVersion);
    }

    /// @inheritdoc IFederatedLedger
    function latestRound() external view returns (uint32) {
        return _newest.round;
    }

    /// @inheritdoc IFederatedLedger
    function latestModel() external view returns (uint32 round, Cid memory model) {
        round = _registry.latestReleased;
        model = Cid(_rounds[round].modelDigest, _rounds[round].modelCodec);
    }

    /// @inheritdoc IFederatedLedger
    function memberCount() external view returns (uint16) {
        return _registry.members;
    }

    /// @inheritdoc IFederatedLedger
    function memberOf(address account) external view returns (Member memory) {
        return _members[account];
    }

    /// @inheritdoc IFederatedLedger
    function accountsOf(uint16 first, uint16 count) external view returns (address[] memory accounts) {
        uint256 members = _registry.members;
        uint256 end = uint256(first) + count;
        if (end > members + 1) end = members + 1;
        accounts = new address[](first == 0 || end < first ? 0 : end - first);
        for (uint256 at = 0; at < accounts.length; ++at) {
            accounts[at] = _accounts[uint16(first + at)];
        }
    }

    /// @inheritdoc IFederatedLedger
    function roundOf(uint32 round) external view returns (Round memory) {
        StoredRound memory stored = _rounds[round];
        return Round({
            status: stored.status,
            participantsAttest: stored.participantsAttest,
            approvalsNeeded: stored.approvalsNeeded,
            approvals: stored.approvals,
            rejectionsAllowed: stored.rejectionsAllowed,
            rejections: stored.rejections,
            charterVersion: stored.charterVersion,
            quorum: stored.quorum,
            eligible: stored.eligible,
            grace: stored.grace,
            model: Cid(stored.modelDigest, stored.modelCodec)
        });
    }

    /// @inheritdoc IFederatedLedger
    function domainSeparator() public view returns (bytes32) {
        return keccak256(
            abi.encode(_DOMAIN, keccak256("fedledger"), keccak256("1"), block.chainid, address(this))
        );
    }

    // ------------------------------------------------------------------ private

    /// @dev Folds one entry into the head and returns the entry's index, counted from 0.
    function _extend(bytes memory preimage) private returns (uint64 entry) {
        head = keccak256(preimage);
        entry = _newest.entries++;
    }

    /// @dev Takes one update into `newest` and returns the head after it; the caller stores both.
    function _record(
        bytes32 running,
        Newest memory newest,
        uint16 member,
        Cid memory update,
        bytes32 keys,
        uint64 weight
    ) private returns (bytes32) {
        if (weight == 0) revert WeightInvalid();
        _requireCid(update);
        emit UpdateRecorded(newest.entries, newest.round, member, update, keys, weight, msg.sender);
        unchecked {
            // Neither can overflow: there are fewer members than 2^16, and no chain has room for 2^40 entries.
            newest.recorded++;
            newest.entries++;
        }
        return keccak256(
            abi.encode(
                running,
                Kind.UpdateRecorded,
                newest.round,
                member,
                update,
                keys,
                weight,
                msg.sender,
                block.number,
                block.timestamp
            )
        );
    }

    function _accept(address account, Cid calldata accepted, bytes32 ageKey) private {
        uint16 id = _requirePresent(account);
        if (accepted.digest != _charter.digest || accepted.codec != _charter.codec) {
            revert CharterOutdated(accepted.digest, _charter.digest);
        }
        if (ageKey == 0) revert AgeKeyMissing();

        Member storage member = _members[account];
        uint16 version = _registry.charterVersion;
        if (member.accepted != version) _count(member.roles);
        // Who lets a round pass without having accepted its charter begins anew, for rounds opened later.
        if (member.accepted == 0 || member.accepted < _newest.charterVersion) member.since = _newest.round;
        member.accepted = version;
        member.acceptances++;
        uint64 entry = _extend(
            abi.encode(
                head,
                Kind.CharterAccepted,
                id,
                accepted,
                ageKey,
                msg.sender,
                block.number,
                block.timestamp
            )
        );
        emit CharterAccepted(entry, id, accepted, ageKey, msg.sender);
    }

    function _move(uint16 member, address present, address account) private {
        uint32 round = _newest.round;
        _members[account] = _members[present];
        _members[account].since = round;
        _members[present].until = round;
        _accounts[member] = account;
        delete _offers[member];
    }

    function _release(uint32 round, StoredRound storage stored) private {
        stored.status = Status.Released;
        if (round > _registry.latestReleased) _registry.latestReleased = round;
    }

    function _count(uint8 roles) private {
        if (roles & _PARTICIPANT != 0) _registry.participants++;
        if (roles & _AUDITOR != 0) _registry.auditors++;
    }

    function _uncount(uint8 roles) private {
        if (roles & _PARTICIPANT != 0) _registry.participants--;
        if (roles & _AUDITOR != 0) _registry.auditors--;
    }

    function _requireGovernor() private view {
        if (msg.sender != _registry.governor) revert GovernorOnly(msg.sender);
    }

    function _requireNewAccount(address account) private view {
        if (account == address(0)) revert MemberAccountZero();
        if (_members[account].id != 0) revert MemberAccountTaken(account);
    }

    function _presentAccount(uint16 member) private view returns (address account) {
        account = _accounts[member];
        if (account == address(0)) revert MemberIdUnknown(member);
    }

    function _requirePresent(address account) private view returns (uint16 member) {
        member = _members[account].id;
        if (member == 0) revert MemberUnknown(account);
        if (_accounts[member] != account) revert AccountOutdated(member, _members[account].until);
    }

    function _callerStanding(uint32 round, uint16 charterVersion, uint8 roles)
        private
        view
        returns (Member memory member)
    {
        member = _members[msg.sender];
        if (member.id == 0) revert MemberUnknown(msg.sender);
        _requireStanding(member, round, charterVersion, roles);
    }

    /// @dev The account may act in `round` with one of `roles`, under the charter of that round.
    function _requireStanding(Member memory member, uint32 round, uint16 charterVersion, uint8 roles)
        private
        pure
    {
        if (round > member.until) revert AccountOutdated(member.id, member.until);
        uint8 held = round > member.rolesSince ? member.roles : member.rolesBefore;
        if (held & roles == 0) revert MemberRoleMissing(member.id, roles);
        if (member.accepted < charterVersion) revert CharterNotAccepted(member.id, charterVersion);
        if (member.since >= round) revert MemberNotEligible(member.id, round);
    }

    function _requireOpen(uint32 round) private view returns (Newest memory newest) {
        newest = _newest;
        if (newest.deadline == 0 || newest.round != round) revert RoundNotOpen(round);
    }

    /// @dev No update can follow, and the caller has seen every entry.
    function _requireComplete(Newest memory newest, uint16 eligible, bytes32 expectedHead) private view {
        if (block.timestamp <= newest.deadline && newest.recorded < eligible) {
            revert RoundStillRunning(newest.round, newest.deadline);
        }
        if (head != expectedHead) revert HeadMoved(expectedHead, head);
    }

    /// @dev Marks the member as having posted in the newest round; false if it had.
    function _post(Newest memory newest, Member memory member, address account) private returns (bool) {
        if (member.id > _POSTED_BITS) {
            if (member.lastRound == newest.round) return false;
            _members[account].lastRound = newest.round;
            return true;
        }
        uint112 bit = uint112(1) << (member.id - 1);
        if (newest.posted & bit != 0) return false;
        newest.posted |= bit;
        return true;
    }

    function _hasAttested(uint32 round, StoredRound storage stored, uint16 member) private view returns (bool) {
        return member <= _ATTESTED_BITS
            ? (stored.attested >> (member - 1)) & 1 != 0
            : _attestedAbove[round][member];
    }

    /// @dev The account that signed; the zero account where the signature is none, or not in its one canonical form.
    function _signer(bytes32 domain, bytes32 message, bytes32 r, bytes32 vs) private pure returns (address) {
        uint256 s = uint256(vs) & (type(uint256).max >> 1);
        if (s > _HALF_ORDER) return address(0);
        uint8 v = uint8(uint256(vs) >> 255) + 27;
        bytes32 digest;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, hex"1901")
            mstore(add(free, 0x02), domain)
            mstore(add(free, 0x22), message)
            digest := keccak256(free, 0x42)
        }
        return ecrecover(digest, v, r, bytes32(s));
    }

    function _requireCid(Cid memory cid) private pure {
        if (cid.digest == 0 || (cid.codec != _RAW && cid.codec != _DAG_PB)) {
            revert CidInvalid(cid.digest, cid.codec);
        }
    }
}
