// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "./IFederatedLedger.sol";

/// @title FederatedLedger: the commitments of one federation's training history.
/// @notice Members, rounds, updates, settlements and attestations, each an entry that extends one running head.
/// There is no proxy, no owner power over recorded history, and no ether.
/// @dev What each call requires stands in {IFederatedLedger}. `ledger/history.py` keeps the same
/// state, and `ledger/rules.py` refuses under the same names.
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
    bytes32 private constant _UPDATE =
        keccak256("Update(uint32 round,bytes32 openingHead,bytes32 digest,uint8 codec,bytes32 keyBlob,uint64 weight)");
    bytes32 private constant _ACCEPTANCE =
        keccak256("Acceptance(bytes32 digest,uint8 codec,bytes32 ageKey,uint16 nonce)");

    /// @dev All that changes with every update, beside the head, in one slot: an update's gas is constant. The order
    /// matters to {_countUpdates}.
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
        uint16 charterVersion;
        // Not suspended, and under the charter in force:
        uint16 participants;
        uint16 auditors;
        uint16 participantsOrAuditors;
        uint32 latestReleased;
    }

    struct Deployment {
        bytes32 charterDigest;
        uint8 charterCodec;
        address governor;
        uint64 blockNumber;
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
    Deployment private _deployment;
    address private _governanceOffer;
    uint16 private _memberCount;
    mapping(address account => Member) private _members;
    mapping(uint16 member => address) private _accounts;
    mapping(uint16 member => address) private _offers;
    mapping(uint32 round => StoredRound) private _rounds;
    /// @dev Who has posted among 224 members with higher ids: `round << 224 | bits`, the round being the newest in which
    /// one of them posted; bit `id % 224`.
    mapping(uint16 page => uint256) private _postedAbove;
    mapping(uint32 round => mapping(uint16 page => uint256 members)) private _attestedAbove;

    constructor(Cid memory charter_) {
        _requireCid(charter_.digest, charter_.codec);
        _registry.governor = msg.sender;
        _registry.charterVersion = 1;
        _charter = charter_;
        _deployment = Deployment(charter_.digest, charter_.codec, msg.sender, uint64(block.number));
        head = keccak256(abi.encode(VERSION, block.chainid, address(this), msg.sender, charter_));
    }

    // --------------------------------------------------------------- governance

    /// @inheritdoc IFederatedLedger
    function offerGovernance(address account) external {
        _requireGovernor();
        // slither-disable-next-line missing-zero-check (the zero account takes the offer back)
        _governanceOffer = account;
        _record(abi.encode(head, GovernanceOffered.selector, account, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function takeGovernance() external {
        if (_governanceOffer != msg.sender) revert GovernanceNotOffered(msg.sender);
        _governanceOffer = address(0);
        _registry.governor = msg.sender;
        _record(abi.encode(head, GovernanceTaken.selector, msg.sender, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function changeCharter(Cid calldata newCharter) external {
        _requireGovernor();
        _requireCid(newCharter.digest, newCharter.codec);

        uint16 version = ++_registry.charterVersion;
        _registry.participants = 0;
        _registry.auditors = 0;
        _registry.participantsOrAuditors = 0;
        _charter = newCharter;
        _record(abi.encode(head, CharterChanged.selector, version, newCharter, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function admit(address account, uint8 roles, bytes32 name) external returns (uint16 member) {
        _requireGovernor();
        _requireNewAccount(account);
        if (roles == 0 || roles > _ALL_ROLES) revert MemberRolesInvalid(roles);
        if (name == 0) revert MemberNameMissing();

        member = ++_memberCount;
        Member storage admitted = _members[account];
        admitted.id = member;
        admitted.roles = roles;
        admitted.since = _newest.round;
        admitted.until = type(uint32).max;
        _accounts[member] = account;
        _record(abi.encode(head, MemberAdmitted.selector, member, account, roles, name, block.number, block.timestamp));
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
        // Two changes between the same rounds are one: what held before the first still holds up to here. What held
        // before an earlier change is not kept: the account does not act in rounds of that time any more.
        if (changed.rolesSince != round) {
            if (changed.since < changed.rolesSince) changed.since = changed.rolesSince;
            changed.rolesBefore = changed.roles;
        }
        changed.roles = roles;
        changed.rolesSince = round;
        _record(abi.encode(head, RolesChanged.selector, member, roles, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function replaceAccount(uint16 member, address account) external {
        _requireGovernor();
        address present = _presentAccount(member);
        _requireNewAccount(account);

        _move(member, present, account);
        _record(abi.encode(head, AccountReplaced.selector, member, account, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function recordGenesis(Cid calldata model) external {
        _requireGovernor();
        if (_rounds[0].status != Status.None) revert GenesisAlreadyRecorded();
        _requireCid(model.digest, model.codec);

        _rounds[0].status = Status.Released;
        _rounds[0].modelCodec = model.codec;
        _rounds[0].modelDigest = model.digest;
        _record(abi.encode(head, GenesisRecorded.selector, model, block.number, block.timestamp));
    }

    // --------------------------------------------------------------- membership

    /// @inheritdoc IFederatedLedger
    function accept(Cid calldata accepted, bytes32 ageKey) external {
        _accept(msg.sender, accepted, ageKey);
    }

    /// @inheritdoc IFederatedLedger
    function acceptSigned(Cid calldata accepted, bytes32 ageKey, uint16 nonce, bytes32 r, bytes32 vs) external {
        address signer = _signer(
            domainSeparator(), keccak256(abi.encode(_ACCEPTANCE, accepted.digest, accepted.codec, ageKey, nonce)), r, vs
        );
        if (_members[signer].id == 0 || _members[signer].acceptances != nonce) revert SignatureInvalid(0);
        _accept(signer, accepted, ageKey);
    }

    /// @inheritdoc IFederatedLedger
    function offerAccount(address account) external {
        uint16 member = _requirePresent(msg.sender);
        if (account != address(0)) _requireNewAccount(account);

        _offers[member] = account;
        _record(abi.encode(head, AccountOffered.selector, member, account, block.number, block.timestamp));
    }

    /// @inheritdoc IFederatedLedger
    function takeAccount(uint16 member) external {
        if (_offers[member] != msg.sender) revert AccountNotOffered(member, msg.sender);
        _requireNewAccount(msg.sender);

        _move(member, _accounts[member], msg.sender);
        _record(abi.encode(head, AccountTaken.selector, member, msg.sender, block.number, block.timestamp));
    }

    // ------------------------------------------------------------------- rounds

    /// @inheritdoc IFederatedLedger
    function open(Cid calldata plan, uint32 baseRound, Terms calldata terms) external returns (uint32 round) {
        Registry memory registry = _registry;
        Newest memory newest = _newest;
        round = newest.round + 1;
        uint16 aggregator = _callerStanding(round, registry.charterVersion, _AGGREGATOR);
        if (newest.deadline != 0) revert RoundStillOpen(newest.round);
        StoredRound storage base = _rounds[baseRound];
        if (base.status != Status.Released) revert BaseNotReleased(baseRound);
        if (terms.window == 0) revert WindowInvalid();
        if (terms.quorum == 0 || terms.quorum > registry.participants) {
            revert QuorumInvalid(terms.quorum, registry.participants);
        }
        uint16 attesters = terms.participantsAttest ? registry.participantsOrAuditors : registry.auditors;
        if (terms.approvals > attesters) revert ApprovalsInvalid(terms.approvals, attesters);
        _requireCid(plan.digest, plan.codec);

        uint40 deadline = uint40(block.timestamp) + terms.window;
        _newest = Newest({
            entries: newest.entries,
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
        _record(
            bytes.concat(
                abi.encode(head, RoundOpened.selector, round, aggregator, plan, baseRound),
                abi.encode(base.modelDigest, base.modelCodec, deadline, terms.grace, terms.quorum),
                abi.encode(terms.approvals, terms.rejections, terms.participantsAttest),
                abi.encode(block.number, block.timestamp)
            )
        );
        openingHead = head;
    }

    /// @inheritdoc IFederatedLedger
    function postUpdate(uint32 round, Cid calldata update, bytes32 keyBlob, uint64 weight) external {
        (uint256 newest, uint16 charterVersion, uint112 posted) = _requireTaking(round);
        uint16 member = _callerStanding(round, charterVersion, _PARTICIPANT);
        bool first;
        (first, posted) = _post(posted, member, round);
        if (!first) revert UpdateAlreadyRecorded(round, member);
        _requireUpdate(update, weight);
        _countUpdates(newest, posted, 1);
        head = _emitUpdate(_updateEntry(round), head, member, update, keyBlob, weight);
    }

    /// @inheritdoc IFederatedLedger
    function relayUpdates(uint32 round, SignedUpdate[] calldata updates) external {
        (uint256 newest, uint16 charterVersion, uint112 posted) = _requireTaking(round);
        uint16 recorded = 0;
        bytes32 domain = domainSeparator();
        bytes32 running = head;
        // Each turn fills these two in, so that its cost does not grow with the number of updates.
        Cid memory none;
        bytes memory message = abi.encode(_UPDATE, round, openingHead, none, uint256(0), uint256(0));
        bytes memory entry = _updateEntry(round);
        for (uint256 index = 0; index < updates.length; ++index) {
            SignedUpdate calldata signed = updates[index];
            assembly ("memory-safe") {
                calldatacopy(add(message, 0x80), signed, 0x80) // update, key blob and weight
            }
            address signer = _signer(domain, keccak256(message), signed.r, signed.vs);
            uint16 member = _standing(signer, round, charterVersion, _PARTICIPANT);
            if (member == 0) revert SignatureInvalid(index);
            bool first;
            (first, posted) = _post(posted, member, round);
            if (!first) continue;
            uint64 weight = signed.weight;
            _requireUpdate(signed.update, weight);
            unchecked {
                ++recorded;
            }
            running = _emitUpdate(entry, running, member, signed.update, signed.keyBlob, weight);
        }
        _countUpdates(newest, posted, recorded);
        head = running;
    }

    /// @inheritdoc IFederatedLedger
    function settle(uint32 round, bytes32 expectedHead, Cid calldata model, Cid calldata manifest, uint16 counted)
        external
    {
        Newest storage newest = _requireOpen(round);
        uint16 aggregator = _callerStanding(round, newest.charterVersion, _AGGREGATOR);
        StoredRound storage stored = _rounds[round];
        _requireComplete(newest, stored.eligible, expectedHead);
        if (counted < stored.quorum) revert QuorumNotMet(counted, stored.quorum);
        if (counted > newest.recorded) revert CountedExceedsRecorded(counted, newest.recorded);
        _requireCid(model.digest, model.codec);
        _requireCid(manifest.digest, manifest.codec);

        _newest.deadline = 0;
        stored.modelDigest = model.digest;
        stored.modelCodec = model.codec;
        stored.status = Status.Settled;
        if (stored.approvalsNeeded == 0) _release(round, stored);
        _record(
            abi.encode(
                expectedHead,
                RoundSettled.selector,
                round,
                aggregator,
                model,
                manifest,
                counted,
                block.number,
                block.timestamp
            )
        );
    }

    /// @inheritdoc IFederatedLedger
    function abort(uint32 round, bytes32 expectedHead, AbortReason reason, Cid calldata manifest) external {
        Newest storage newest = _requireOpen(round);
        StoredRound storage stored = _rounds[round];
        uint16 aggregator = 0;
        if (reason == AbortReason.None) revert AbortReasonMissing();
        if (reason == AbortReason.Expired) {
            uint40 expiry = newest.deadline + stored.grace;
            if (block.timestamp <= expiry) revert RoundNotExpired(round, expiry);
        } else {
            aggregator = _callerStanding(round, newest.charterVersion, _AGGREGATOR);
        }
        if (reason == AbortReason.Quorum) {
            _requireComplete(newest, stored.eligible, expectedHead);
            _requireCid(manifest.digest, manifest.codec);
        } else if (manifest.digest != 0 || manifest.codec != 0) {
            revert CidInvalid(manifest.digest, manifest.codec);
        }

        _newest.deadline = 0;
        stored.status = Status.Aborted;
        _record(
            abi.encode(
                head,
                RoundAborted.selector,
                round,
                aggregator,
                reason,
                manifest,
                msg.sender,
                block.number,
                block.timestamp
            )
        );
    }

    /// @inheritdoc IFederatedLedger
    function attest(uint32 round, bool approve, Cid calldata report) external {
        StoredRound storage stored = _rounds[round];
        Status status = stored.status;
        if (round == 0 || (status != Status.Settled && status != Status.Released)) {
            revert RoundNotSettled(round);
        }
        uint8 roles = stored.participantsAttest ? _AUDITOR | _PARTICIPANT : _AUDITOR;
        uint16 member = _callerStanding(round, stored.charterVersion, roles);
        if (_hasAttested(round, stored, member)) revert AttestationAlreadyRecorded(round, member);
        _requireCid(report.digest, report.codec);

        if (member <= _ATTESTED_BITS) stored.attested |= uint88(1) << (member - 1);
        else _attestedAbove[round][member >> 8] |= 1 << (member & 0xff);
        if (approve) stored.approvals++;
        else stored.rejections++;
        if (
            status == Status.Settled && stored.approvals >= stored.approvalsNeeded
                && stored.rejections <= stored.rejectionsAllowed
        ) _release(round, stored);
        _record(
            abi.encode(
                head, AttestationRecorded.selector, round, member, approve, report, block.number, block.timestamp
            )
        );
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

        _record(
            abi.encode(
                head, ErasureRecorded.selector, round, member, digest, reason, msg.sender, block.number, block.timestamp
            )
        );
    }

    /// @inheritdoc IFederatedLedger
    function grant(uint16 to, uint32 first, uint32 last, Cid calldata keys) external {
        uint16 member = _requirePresent(msg.sender);
        uint8 openers = _AGGREGATOR | _AUDITOR;
        if (_members[msg.sender].roles & openers == 0) revert MemberRoleMissing(member, openers);
        _presentAccount(to);
        if (first == 0 || first > last || last > _newest.round) revert RoundsInvalid(first, last);
        if (last == _newest.round && _newest.deadline != 0) revert RoundStillOpen(last);
        _requireCid(keys.digest, keys.codec);

        _record(abi.encode(head, GrantRecorded.selector, member, to, first, last, keys, block.number, block.timestamp));
    }

    // -------------------------------------------------------------------- views

    /// @inheritdoc IFederatedLedger
    function genesis() external view returns (address governor_, Cid memory charter_, uint64 blockNumber) {
        Deployment memory deployment = _deployment;
        return (deployment.governor, Cid(deployment.charterDigest, deployment.charterCodec), deployment.blockNumber);
    }

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
        return _memberCount;
    }

    /// @inheritdoc IFederatedLedger
    function memberOf(address account) external view returns (Member memory) {
        return _members[account];
    }

    /// @inheritdoc IFederatedLedger
    function accountsOf(uint16 first, uint16 count) external view returns (address[] memory accounts) {
        uint256 members = _memberCount;
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
        return keccak256(abi.encode(_DOMAIN, keccak256("fedledger"), keccak256("1"), block.chainid, address(this)));
    }

    // ------------------------------------------------------------------ private

    /// @dev Records one entry, given `abi.encode(head, kind, fields…, block.number, block.timestamp)`: its hash is the new
    /// head, and what stands between kind and block number is the data of the log, whose topic is the kind. So no event
    /// can differ from what the head commits to.
    function _record(bytes memory entry) private {
        head = _emit(entry);
        _newest.entries++;
    }

    /// @dev Emits one entry's log and returns the head after it.
    function _emit(bytes memory entry) private returns (bytes32) {
        assembly ("memory-safe") {
            log1(add(entry, 0x60), sub(mload(entry), 0x80), mload(add(entry, 0x40)))
        }
        return keccak256(entry);
    }

    /// @dev An update's entry, with gaps for what {_emitUpdate} fills in.
    function _updateEntry(uint32 round) private view returns (bytes memory) {
        // slither-disable-next-line uninitialized-local (zero until {_emitUpdate} fills it in)
        bytes32 gap;
        return abi.encode(
            gap,
            UpdateRecorded.selector,
            round,
            gap, // member
            gap, // update's digest
            gap, // and codec
            gap, // key blob
            gap, // weight
            msg.sender,
            block.number,
            block.timestamp
        );
    }

    /// @dev Fills in the gaps, emits the log and returns the head after it.
    function _emitUpdate(
        bytes memory entry,
        bytes32 previous,
        uint16 member,
        Cid calldata update,
        bytes32 keyBlob,
        uint64 weight
    ) private returns (bytes32) {
        assembly ("memory-safe") {
            mstore(add(entry, 0x20), previous)
            mstore(add(entry, 0x80), member)
            calldatacopy(add(entry, 0xa0), update, 0x40)
            mstore(add(entry, 0xe0), keyBlob)
            mstore(add(entry, 0x100), weight)
        }
        return _emit(entry);
    }

    function _requireUpdate(Cid calldata update, uint64 weight) private pure {
        if (weight == 0) revert WeightInvalid();
        _requireCid(update.digest, update.codec);
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
        if (member.accepted < _newest.charterVersion) member.since = _newest.round;
        member.accepted = version;
        member.acceptances++;
        _record(
            abi.encode(head, CharterAccepted.selector, id, accepted, ageKey, msg.sender, block.number, block.timestamp)
        );
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
        if (roles & (_PARTICIPANT | _AUDITOR) != 0) _registry.participantsOrAuditors++;
    }

    function _uncount(uint8 roles) private {
        if (roles & _PARTICIPANT != 0) _registry.participants--;
        if (roles & _AUDITOR != 0) _registry.auditors--;
        if (roles & (_PARTICIPANT | _AUDITOR) != 0) _registry.participantsOrAuditors--;
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

    function _callerStanding(uint32 round, uint16 charterVersion, uint8 roles) private view returns (uint16 id) {
        id = _standing(msg.sender, round, charterVersion, roles);
        if (id == 0) revert MemberUnknown(msg.sender);
    }

    /// @dev Requires that a member's account may act in `round` with one of `roles`, under the charter of that round;
    /// the member's id, 0 for a stranger.
    function _standing(address account, uint32 round, uint16 charterVersion, uint8 roles)
        private
        view
        returns (uint16 id)
    {
        Member storage member = _members[account];
        id = member.id;
        if (id == 0) return 0;
        if (round > member.until) revert AccountOutdated(id, member.until);
        uint8 held = round > member.rolesSince ? member.roles : member.rolesBefore;
        if (held & roles == 0) revert MemberRoleMissing(id, roles);
        if (member.accepted < charterVersion) revert CharterNotAccepted(id, charterVersion);
        if (member.since >= round) revert MemberNotEligible(id, round);
    }

    function _requireOpen(uint32 round) private view returns (Newest storage newest) {
        newest = _newest;
        if (newest.deadline == 0 || newest.round != round) revert RoundNotOpen(round);
    }

    /// @dev Requires that the round takes updates; {_newest} as one word, and what an update needs of it.
    function _requireTaking(uint32 round) private view returns (uint256 word, uint16 charterVersion, uint112 posted) {
        Newest storage newest = _newest;
        uint40 deadline = newest.deadline;
        if (deadline == 0 || newest.round != round) revert RoundNotOpen(round);
        if (block.timestamp > deadline) revert RoundClosed(round, deadline);
        assembly ("memory-safe") {
            word := sload(newest.slot)
        }
        return (word, newest.charterVersion, newest.posted);
    }

    /// @dev No update can follow, and the caller has seen every entry.
    function _requireComplete(Newest storage newest, uint16 eligible, bytes32 expectedHead) private view {
        if (block.timestamp <= newest.deadline && newest.recorded < eligible) {
            revert RoundStillRunning(newest.round, newest.deadline);
        }
        if (head != expectedHead) revert HeadMoved(expectedHead, head);
    }

    /// @dev Marks the member as having posted in the open round: whether it had not, and the new bitmap.
    function _post(uint112 posted, uint16 member, uint32 round) private returns (bool, uint112) {
        if (member <= _POSTED_BITS) {
            uint112 bit = uint112(1) << (member - 1);
            return (posted & bit == 0, posted | bit);
        }
        uint256 page = _postedAbove[member / 224];
        if (page >> 224 != round) page = uint256(round) << 224;
        uint256 mark = 1 << (member % 224);
        if (page & mark != 0) return (false, posted);
        _postedAbove[member / 224] = page | mark;
        return (true, posted);
    }

    /// @dev `_newest.posted = posted; _newest.recorded += recorded; _newest.entries += recorded;` in one write, `newest`
    /// being the word before it. Nothing can overflow: there are fewer members than 2^16, and no chain has room for
    /// 2^40 entries.
    function _countUpdates(uint256 newest, uint112 posted, uint16 recorded) private {
        assembly ("memory-safe") {
            let counted := add(newest, add(recorded, shl(112, recorded)))
            sstore(_newest.slot, or(counted, shl(144, posted)))
        }
    }

    function _hasAttested(uint32 round, StoredRound storage stored, uint16 member) private view returns (bool) {
        return member <= _ATTESTED_BITS
            ? (stored.attested >> (member - 1)) & 1 != 0
            : (_attestedAbove[round][member >> 8] >> (member & 0xff)) & 1 != 0;
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

    function _requireCid(bytes32 digest, uint8 codec) private pure {
        if (digest == 0 || (codec != _RAW && codec != _DAG_PB)) revert CidInvalid(digest, codec);
    }
}
