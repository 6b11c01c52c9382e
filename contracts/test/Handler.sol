// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFederatedLedger} from "../IFederatedLedger.sol";
import {LedgerTest, Vm} from "./LedgerTest.sol";

/// @dev Any calls by anyone in any order. What each entry must have fulfilled is judged here by a model that knows the
/// entries alone: at each opening it photographs who has which account, which roles, and accepted the charter in force;
/// whoever acts in a round must stand on that photograph.
contract Handler is LedgerTest {
    uint256 internal constant ACTORS = 24;
    address[] internal actors;

    struct Standing {
        address account;
        uint8 roles; // 0 where the charter in force was not accepted
    }

    // The members, as the entries tell.
    uint16 internal members;
    uint16 internal charterVersion = 1;
    address internal governor;
    address internal governanceOffer;
    mapping(uint16 member => Standing) internal standing;
    mapping(uint16 member => uint16) internal accepted;
    mapping(address account => uint16) internal idOf;
    mapping(uint16 member => address) internal offers;

    // The rounds, as the entries tell.
    uint32 internal rounds;
    mapping(uint32 round => uint256) internal deadline;
    mapping(uint32 round => uint256) internal expiry;
    mapping(uint32 round => IFederatedLedger.Status) internal status;
    mapping(uint32 round => uint16) internal eligible;
    mapping(uint32 round => uint16) internal updates;
    mapping(uint32 round => uint16) internal approvals;
    mapping(uint32 round => uint16) internal rejections;
    mapping(uint32 round => bytes32) internal model;
    mapping(uint32 round => mapping(uint16 member => Standing)) internal photograph;
    mapping(uint32 round => mapping(uint16 member => bool)) internal posted;
    mapping(uint32 round => mapping(uint16 member => bool)) internal attested;

    // Of the call under way.
    address internal sender;
    address[] internal signers;
    bytes32 internal headBefore;

    mapping(bytes32 kind => uint256) public recorded;

    constructor() {
        deploy();
        governor = GOVERNOR;
        for (uint256 i = 0; i < ACTORS; ++i) {
            actors.push(vm.addr(keyOf(i)));
        }
        uint8[6] memory roles = [PARTICIPANT, PARTICIPANT, PARTICIPANT | AUDITOR, AGGREGATOR, AUDITOR, 7];
        for (uint256 i = 0; i < roles.length; ++i) {
            call(GOVERNOR, abi.encodeCall(ledger.admit, (actor(i), roles[i], bytes32(i + 1))));
            call(actor(i), abi.encodeCall(ledger.accept, (cid("charter"), AGE_KEY)));
        }
        call(GOVERNOR, abi.encodeCall(ledger.recordGenesis, (cid("genesis"))));
    }

    // ------------------------------------------------------------------ calls

    function offerGovernance(uint256 who, uint256 to) external {
        call(governs(who), abi.encodeCall(ledger.offerGovernance, (to % 3 == 0 ? address(0) : actor(to))));
    }

    function takeGovernance(uint256 who) external {
        call(who % 4 == 0 ? actor(who) : governanceOffer, abi.encodeCall(ledger.takeGovernance, ()));
    }

    function changeCharter(uint256 who, uint256 which) external {
        // Seldom: all must accept it again.
        if (which % 4 == 0) call(governs(who), abi.encodeCall(ledger.changeCharter, (cidOf(which))));
    }

    function admit(uint256 who, uint256 to, uint8 roles, bytes32 name) external {
        address account = to % 4 == 0 ? fresh() : actor(to);
        call(governs(who), abi.encodeCall(ledger.admit, (account, roles % 9, name)));
    }

    function changeRoles(uint256 who, uint16 member, uint8 roles) external {
        call(governs(who), abi.encodeCall(ledger.changeRoles, (near(member, members), roles % 9)));
    }

    function replaceAccount(uint256 who, uint16 member, uint256 to) external {
        address account = to % 4 == 0 ? fresh() : actor(to);
        call(governs(who), abi.encodeCall(ledger.replaceAccount, (near(member, members), account)));
    }

    function recordGenesis(uint256 who) external {
        call(governs(who), abi.encodeCall(ledger.recordGenesis, (cid("another genesis"))));
    }

    function accept(uint256 who, bytes32 ageKey) external {
        (IFederatedLedger.Cid memory charter,) = ledger.charter();
        call(actor(who), abi.encodeCall(ledger.accept, (charter, ageKey)));
    }

    function acceptSigned(uint256 who, uint256 carrier, uint16 nonce) external {
        (IFederatedLedger.Cid memory charter,) = ledger.charter();
        if (nonce % 4 != 0) nonce = ledger.memberOf(actor(who)).acceptances;
        call(actor(carrier), signedAcceptance(keyOf(who), charter, nonce));
    }

    function everyoneAccepts() external {
        (IFederatedLedger.Cid memory charter,) = ledger.charter();
        for (uint16 id = 1; id <= members; ++id) {
            call(standing[id].account, abi.encodeCall(ledger.accept, (charter, AGE_KEY)));
        }
    }

    function offerAccount(uint256 who, uint256 to) external {
        address account = to % 8 == 0 ? address(0) : to % 8 == 1 ? actor(to) : fresh();
        call(actor(who), abi.encodeCall(ledger.offerAccount, (account)));
    }

    function takeAccount(uint16 member, uint256 who) external {
        member = near(member, members);
        call(who % 4 == 0 ? actor(who) : offers[member], abi.encodeCall(ledger.takeAccount, (member)));
    }

    function open(uint256 who, uint32 base, uint256 terms) external {
        (uint32 latest,) = ledger.latestModel();
        if (base % 2 == 0) latest = uint32(base % (rounds + 2));
        IFederatedLedger.Terms memory chosen = IFederatedLedger.Terms({
            window: terms % 16 == 0 ? 0 : WINDOW,
            grace: GRACE,
            quorum: uint16((terms >> 8) % 3),
            approvals: uint16((terms >> 16) % 4),
            rejections: uint16((terms >> 24) % 3),
            participantsAttest: (terms >> 32) % 2 == 0
        });
        call(withRole(who, AGGREGATOR), abi.encodeCall(ledger.open, (cidOf(terms >> 40), latest, chosen)));
    }

    function postUpdate(uint256 who, uint32 round, uint64 weight) external {
        round = near(round);
        address account = actor(who);
        uint16 id = idOf[account];
        bool mayPost = standsIn(round, id, account, PARTICIPANT) && !posted[round][id] && weight > 0
            && status[round] == IFederatedLedger.Status.Open && vm.getBlockTimestamp() <= deadline[round];
        bool done = call(account, abi.encodeCall(ledger.postUpdate, (round, cidOf(weight), KEY_BLOB, weight)));
        require(done == (mayPost && isCid(weight)), "an update is recorded exactly when its member may post");
    }

    function relayUpdates(uint256 carrier, uint256 first, uint256 second, uint256 third, uint32 round) external {
        round = near(round);
        uint256[3] memory who = [first, second, third];
        IFederatedLedger.SignedUpdate[] memory batch = new IFederatedLedger.SignedUpdate[](carrier % 4);
        for (uint256 i = 0; i < batch.length; ++i) {
            batch[i] = signed(keyOf(who[i]), round, ledger.openingHead(), cid("update"), 10);
            signers.push(actor(who[i]));
        }
        call(actor(carrier), abi.encodeCall(ledger.relayUpdates, (round, batch)));
        delete signers;
    }

    function everyonePosts() external {
        for (uint16 id = 1; id <= members; ++id) {
            call(standing[id].account, abi.encodeCall(ledger.postUpdate, (rounds, cid("update"), KEY_BLOB, 1)));
        }
    }

    function settle(uint256 who, uint32 round, uint256 which, uint16 counted) external {
        round = near(round);
        counted = counted % 4 == 0 ? counted % 5 : updates[round];
        bytes32 head = which % 8 == 0 ? bytes32(which) : folded;
        call(
            withRole(who, AGGREGATOR),
            abi.encodeCall(ledger.settle, (round, head, cidOf(which >> 8), cid("manifest"), counted))
        );
    }

    function abort(uint256 who, uint32 round, uint256 reason, uint256 which) external {
        if (which % 3 != 0) return; // most rounds are to be settled
        round = near(round);
        IFederatedLedger.AbortReason chosen = IFederatedLedger.AbortReason(reason % 4);
        bytes32 head = which % 8 == 0 ? bytes32(which) : folded;
        IFederatedLedger.Cid memory manifest =
            (chosen == IFederatedLedger.AbortReason.Quorum) == (which % 5 != 0) ? cid("manifest") : NONE;
        call(withRole(who, AGGREGATOR), abi.encodeCall(ledger.abort, (round, head, chosen, manifest)));
    }

    function attest(uint256 who, uint32 round, bool approve) external {
        round = round % 2 == 0 ? uint32((round >> 1) % (rounds + 2)) : rounds;
        call(actor(who), abi.encodeCall(ledger.attest, (round, approve, cid("report"))));
    }

    function erase(uint256 who, uint32 round, uint16 member, uint256 reason) external {
        member = near(member, members);
        IFederatedLedger.ErasureReason chosen = IFederatedLedger.ErasureReason(reason % 4);
        address account = who % 2 == 0 ? actor(who) : standing[member].account;
        call(account, abi.encodeCall(ledger.erase, (uint32(round % (rounds + 2)), member, KEY_BLOB, chosen)));
    }

    function grant(uint256 who, uint16 to, uint32 first, uint32 last) external {
        to = near(to, members);
        (first, last) = (uint32(first % (rounds + 2)), uint32(last % (rounds + 2)));
        address account = withRole(who, AGGREGATOR | AUDITOR);
        bool mayGrant = opensUpdates(idOf[account], account) && to > 0 && to <= members && haveEnded(first, last);
        bool done = call(account, abi.encodeCall(ledger.grant, (to, first, last, cidOf(who))));
        require(done == (mayGrant && isCid(who)), "a grant is recorded exactly when its member may grant");
    }

    function payIn(uint256 who, bytes calldata data) external {
        vm.deal(actor(who), 1 ether);
        vm.prank(actor(who));
        (bool done,) = address(ledger).call{value: 1}(data);
        require(!done && address(ledger).balance == 0, "ether is never accepted");
    }

    /// @dev To the border of a deadline or of a grace, or anywhere.
    function pass(uint256 time, uint256 where) external {
        uint256 now_ = vm.getBlockTimestamp();
        uint256 border = where % 3 == 0 ? deadline[rounds] : where % 3 == 1 ? expiry[rounds] : now_;
        border += (time % 3);
        later(border > now_ ? border - 1 : now_ + time % WINDOW);
    }

    // ---------------------------------------------------------------- judgement

    /// @dev Calls, and judges what was recorded.
    function call(address account, bytes memory data) internal returns (bool done) {
        if (account == address(0)) return false; // nobody has its key
        sender = account;
        headBefore = folded;
        (done,) = attempt(account, data);
        Vm.Log[] memory logs = lastLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            recorded[logs[i].topics[0]]++;
            judge(logs[i].topics[0], logs[i].data);
        }
    }

    function judge(bytes32 kind, bytes memory data) private {
        if (kind == IFederatedLedger.UpdateRecorded.selector) judgeUpdate(data);
        else if (kind == IFederatedLedger.RoundOpened.selector) judgeOpening(data);
        else if (kind == IFederatedLedger.RoundSettled.selector) judgeSettlement(data);
        else if (kind == IFederatedLedger.RoundAborted.selector) judgeAbort(data);
        else if (kind == IFederatedLedger.AttestationRecorded.selector) judgeAttestation(data);
        else if (kind == IFederatedLedger.ErasureRecorded.selector) judgeErasure(data);
        else if (kind == IFederatedLedger.GrantRecorded.selector) judgeGrant(data);
        else if (kind == IFederatedLedger.CharterAccepted.selector) judgeAcceptance(data);
        else if (kind == IFederatedLedger.AccountOffered.selector) judgeOffer(data);
        else if (kind == IFederatedLedger.AccountTaken.selector) judgeMove(data, true);
        else if (kind == IFederatedLedger.GovernanceTaken.selector) judgeTaking(data);
        else judgeGovernance(kind, data);
    }

    function judgeGovernance(bytes32 kind, bytes memory data) private {
        require(sender == governor, "only the governor governs");
        if (kind == IFederatedLedger.GovernanceOffered.selector) {
            governanceOffer = abi.decode(data, (address));
        } else if (kind == IFederatedLedger.CharterChanged.selector) {
            (uint16 version,) = abi.decode(data, (uint16, IFederatedLedger.Cid));
            require(version == ++charterVersion, "charters are numbered in order");
        } else if (kind == IFederatedLedger.MemberAdmitted.selector) {
            (uint16 member, address account, uint8 roles, bytes32 name) =
                abi.decode(data, (uint16, address, uint8, bytes32));
            require(member == ++members, "a member id is given once, in order, and with it a name");
            require(idOf[account] == 0 && account != address(0), "an account is one member's, ever");
            require(roles > 0 && roles < 8 && name != 0, "with a role and a name");
            idOf[account] = member;
            standing[member] = Standing(account, roles);
        } else if (kind == IFederatedLedger.RolesChanged.selector) {
            (uint16 member, uint8 roles) = abi.decode(data, (uint16, uint8));
            require(member > 0 && member <= members && roles < 8, "of a member, within the roles");
            standing[member].roles = roles;
        } else if (kind == IFederatedLedger.AccountReplaced.selector) {
            judgeMove(data, false);
        } else {
            require(kind == IFederatedLedger.GenesisRecorded.selector, "a kind that is known");
            require(status[0] == IFederatedLedger.Status.None, "one genesis model");
            status[0] = IFederatedLedger.Status.Released;
            model[0] = keccak256(data);
        }
    }

    function judgeTaking(bytes memory data) private {
        require(abi.decode(data, (address)) == sender && governanceOffer == sender, "to whom it was offered");
        (governor, governanceOffer) = (sender, address(0));
    }

    function judgeAcceptance(bytes memory data) private {
        (uint16 member,,, address carrier) = abi.decode(data, (uint16, IFederatedLedger.Cid, bytes32, address));
        require(member > 0 && carrier == sender, "a member's, and who carried it");
        accepted[member] = charterVersion;
    }

    function judgeOffer(bytes memory data) private {
        (uint16 member, address account) = abi.decode(data, (uint16, address));
        require(standing[member].account == sender, "by the present account");
        offers[member] = account;
    }

    function judgeMove(bytes memory data, bool taken) private {
        (uint16 member, address account) = abi.decode(data, (uint16, address));
        require(!taken || (account == sender && offers[member] == sender), "to which it was offered");
        require(idOf[account] == 0 && account != address(0), "an account is one member's, ever");
        idOf[account] = member;
        standing[member].account = account;
        offers[member] = address(0);
    }

    struct Opening {
        uint32 round;
        uint16 aggregator;
        IFederatedLedger.Cid plan;
        uint32 baseRound;
        IFederatedLedger.Cid base;
        uint40 deadline;
        uint32 grace;
        uint16 quorum;
        uint16 approvals;
        uint16 rejections;
        bool participantsAttest;
    }

    function judgeOpening(bytes memory data) private {
        Opening memory opened = abi.decode(data, (Opening));
        uint32 round = opened.round;
        require(status[rounds] != IFederatedLedger.Status.Open, "one open round");
        require(round == ++rounds, "rounds are numbered in order");
        require(status[opened.baseRound] == IFederatedLedger.Status.Released, "no round builds on an unreleased base");
        require(model[opened.baseRound] == keccak256(abi.encode(opened.base)), "the base is that round's model");
        require(opened.deadline == vm.getBlockTimestamp() + WINDOW && opened.grace == GRACE, "from now on");
        uint16 attesters;
        for (uint16 id = 1; id <= members; ++id) {
            Standing memory present = standing[id];
            if (accepted[id] != charterVersion) present.roles = 0;
            photograph[round][id] = present;
            if (present.roles & PARTICIPANT != 0) ++eligible[round];
            if (present.roles & (opened.participantsAttest ? PARTICIPANT | AUDITOR : AUDITOR) != 0) ++attesters;
        }
        require(standsIn(round, opened.aggregator, sender, AGGREGATOR), "only an aggregator opens");
        require(opened.quorum > 0 && opened.quorum <= eligible[round], "a quorum that can be met");
        require(opened.approvals <= attesters, "approvals that can be met");
        status[round] = IFederatedLedger.Status.Open;
        deadline[round] = opened.deadline;
        expiry[round] = opened.deadline + GRACE;
    }

    function judgeUpdate(bytes memory data) private {
        (uint32 round, uint16 member,,, uint64 weight, address carrier) =
            abi.decode(data, (uint32, uint16, IFederatedLedger.Cid, bytes32, uint64, address));
        require(round == rounds && status[round] == IFederatedLedger.Status.Open, "of the open round");
        require(vm.getBlockTimestamp() <= deadline[round], "no update outside its window");
        require(!posted[round][member], "one update per member and round");
        address author = sender;
        for (uint256 i = 0; i < signers.length; ++i) {
            if (idOf[signers[i]] == member) author = signers[i];
        }
        require(standsIn(round, member, author, PARTICIPANT), "only participants of the round's opening post");
        require(weight > 0 && carrier == sender, "with a weight, and who carried it");
        posted[round][member] = true;
        require(++updates[round] <= eligible[round], "no more updates than eligible participants");
    }

    function judgeSettlement(bytes memory data) private {
        (uint32 round, uint16 aggregator, IFederatedLedger.Cid memory settled,, uint16 counted) =
            abi.decode(data, (uint32, uint16, IFederatedLedger.Cid, IFederatedLedger.Cid, uint16));
        judgeEnd(round, aggregator);
        require(counted <= updates[round] && counted >= ledger.roundOf(round).quorum, "from quorum to recorded");
        status[round] = IFederatedLedger.Status.Settled;
        model[round] = keccak256(abi.encode(settled));
        judgeRelease(round);
    }

    function judgeEnd(uint32 round, uint16 aggregator) private view {
        require(round == rounds && status[round] == IFederatedLedger.Status.Open, "of the open round");
        require(standsIn(round, aggregator, sender, AGGREGATOR), "only an aggregator of the round ends it");
        bool all = updates[round] == eligible[round];
        require(vm.getBlockTimestamp() > deadline[round] || all, "never before the deadline unless all have posted");
    }

    function judgeAbort(bytes memory data) private {
        (uint32 round, uint16 aggregator, IFederatedLedger.AbortReason reason,,) =
            abi.decode(data, (uint32, uint16, IFederatedLedger.AbortReason, IFederatedLedger.Cid, address));
        require(round == rounds && status[round] == IFederatedLedger.Status.Open, "of the open round");
        if (reason == IFederatedLedger.AbortReason.Quorum) {
            judgeEnd(round, aggregator);
        } else if (reason == IFederatedLedger.AbortReason.Expired) {
            require(aggregator == 0 && vm.getBlockTimestamp() > expiry[round], "after its grace");
        } else {
            require(reason == IFederatedLedger.AbortReason.Cancelled, "with a reason");
            require(standsIn(round, aggregator, sender, AGGREGATOR), "only an aggregator of the round ends it");
        }
        status[round] = IFederatedLedger.Status.Aborted;
    }

    function judgeAttestation(bytes memory data) private {
        (uint32 round, uint16 member, bool approve,) = abi.decode(data, (uint32, uint16, bool, IFederatedLedger.Cid));
        IFederatedLedger.Status before = status[round];
        require(
            round > 0 && (before == IFederatedLedger.Status.Settled || before == IFederatedLedger.Status.Released),
            "on a settled model"
        );
        require(!attested[round][member], "one verdict per member and round");
        uint8 roles = ledger.roundOf(round).participantsAttest ? PARTICIPANT | AUDITOR : AUDITOR;
        require(standsIn(round, member, sender, roles), "only attesters of the round's opening attest");
        attested[round][member] = true;
        if (approve) ++approvals[round];
        else ++rejections[round];
        judgeRelease(round);
    }

    function judgeRelease(uint32 round) private {
        if (status[round] != IFederatedLedger.Status.Settled) return;
        IFederatedLedger.Round memory stored = ledger.roundOf(round);
        if (approvals[round] >= stored.approvalsNeeded && rejections[round] <= stored.rejectionsAllowed) {
            status[round] = IFederatedLedger.Status.Released;
        }
    }

    function judgeErasure(bytes memory data) private view {
        (uint32 round, uint16 member, bytes32 digest, IFederatedLedger.ErasureReason reason, address who) =
            abi.decode(data, (uint32, uint16, bytes32, IFederatedLedger.ErasureReason, address));
        require(sender == governor || sender == standing[member].account, "by its member or the governor");
        require(round > 0 && round <= rounds && status[round] != IFederatedLedger.Status.Open, "of an ended round");
        require(digest != 0 && reason != IFederatedLedger.ErasureReason.None && who == sender, "and why");
    }

    function judgeGrant(bytes memory data) private view {
        (uint16 member, uint16 to, uint32 first, uint32 last,) =
            abi.decode(data, (uint16, uint16, uint32, uint32, IFederatedLedger.Cid));
        require(opensUpdates(member, sender), "by the present account of an aggregator or auditor");
        require(to > 0 && to <= members, "for a member");
        require(haveEnded(first, last), "of rounds that have ended");
    }

    function opensUpdates(uint16 member, address account) private view returns (bool) {
        Standing memory present = standing[member];
        return member != 0 && present.account == account && present.roles & (AGGREGATOR | AUDITOR) != 0;
    }

    function haveEnded(uint32 first, uint32 last) private view returns (bool) {
        return first > 0 && first <= last && last <= rounds && status[last] != IFederatedLedger.Status.Open;
    }

    function standsIn(uint32 round, uint16 member, address account, uint8 roles) private view returns (bool) {
        Standing memory then = photograph[round][member];
        return member != 0 && then.account == account && then.roles & roles != 0;
    }

    // --------------------------------------------------- the ledger against the model

    function requireMembersAsRecorded() external view {
        require(ledger.governor() == governor, "the governor");
        require(ledger.memberCount() == members, "the number of members");
        address[] memory accounts = ledger.accountsOf(1, members);
        for (uint16 id = 1; id <= members; ++id) {
            IFederatedLedger.Member memory member = ledger.memberOf(standing[id].account);
            require(accounts[id - 1] == standing[id].account && member.id == id, "present accounts by id");
            require(member.roles == standing[id].roles && member.accepted == accepted[id], "roles and charter");
        }
        for (uint256 i = 0; i < ACTORS; ++i) {
            require(ledger.memberOf(actor(i)).id == idOf[actor(i)], "an account's member id never changes");
        }
    }

    function requireRoundsAsRecorded() external view {
        require(ledger.latestRound() == rounds, "the newest round");
        uint32 newest;
        for (uint32 round = 0; round <= rounds + 1; ++round) {
            IFederatedLedger.Round memory stored = ledger.roundOf(round);
            require(stored.status == status[round], "where it stands: released with its approvals alone");
            require(stored.approvals == approvals[round] && stored.rejections == rejections[round], "its verdicts");
            require(stored.eligible == eligible[round], "its eligible participants");
            if (status[round] == IFederatedLedger.Status.Released) newest = round;
            if (model[round] == 0) require(stored.model.digest == 0, "no model before a settlement");
            else require(keccak256(abi.encode(stored.model)) == model[round], "a settled model never changes");
        }
        (uint32 latest,) = ledger.latestModel();
        require(latest == newest, "the newest released round");
    }

    /// @dev The counts have no getter: they are read from the slot that the governor opens.
    function requireCountsAsRecounted() external view {
        uint256 slot = uint256(vm.load(address(ledger), bytes32(uint256(3))));
        require(address(uint160(slot)) == governor, "the slot of the counts begins with the governor");
        uint16[3] memory counts;
        for (uint16 id = 1; id <= members; ++id) {
            if (accepted[id] != charterVersion) continue;
            if (standing[id].roles & PARTICIPANT != 0) ++counts[0];
            if (standing[id].roles & AUDITOR != 0) ++counts[1];
            if (standing[id].roles & (PARTICIPANT | AUDITOR) != 0) ++counts[2];
        }
        require(uint16(slot >> 160) == charterVersion, "the charter's version");
        require(uint16(slot >> 176) == counts[0], "participants");
        require(uint16(slot >> 192) == counts[1], "auditors");
        require(uint16(slot >> 208) == counts[2], "participants or auditors");
    }

    function requireHeadAsFolded() external view {
        require(ledger.head() == folded && ledger.entryCount() == entries, "the head is the refold of the logs");
        require(address(ledger).balance == 0, "no ether");
    }

    // ---------------------------------------------------------------- choices

    function keyOf(uint256 who) private pure returns (uint256) {
        return 1 + who % ACTORS;
    }

    function actor(uint256 who) private view returns (address) {
        return actors[who % ACTORS];
    }

    /// @dev An account that was never a member's, as long as there is one.
    function fresh() private view returns (address account) {
        for (uint256 i = 0; i < ACTORS; ++i) {
            account = actor(i);
            if (idOf[account] == 0) return account;
        }
    }

    function governs(uint256 who) private view returns (address) {
        return who % 8 == 0 ? actor(who) : governor;
    }

    /// @dev Mostly somebody with that role.
    function withRole(uint256 who, uint8 role) private view returns (address) {
        if (who % 8 == 0 || members == 0) return actor(who);
        for (uint16 i = 0; i < members; ++i) {
            Standing memory one = standing[uint16(1 + (who % members + i) % members)];
            if (one.roles & role != 0) return one.account;
        }
        return actor(who);
    }

    /// @dev Mostly the newest round.
    function near(uint32 round) private view returns (uint32) {
        return round % 8 == 0 ? uint32((round >> 3) % (rounds + 2)) : rounds;
    }

    /// @dev Mostly a member id.
    function near(uint16 member, uint16 last) private pure returns (uint16) {
        return uint16(member % (uint256(last) + 2));
    }

    function isCid(uint256 which) private pure returns (bool) {
        return which % 16 != 0;
    }

    function cidOf(uint256 which) private pure returns (IFederatedLedger.Cid memory) {
        return isCid(which) ? IFederatedLedger.Cid(keccak256(abi.encode(which)), which % 2 == 0 ? 0x55 : 0x70) : cid0();
    }

    function cid0() private pure returns (IFederatedLedger.Cid memory) {
        return IFederatedLedger.Cid(0, 0x55);
    }
}
