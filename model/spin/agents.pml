/*
 * Agents, slots, residency and mail: the rules of specs/semantics.md, written down a second time, from that page
 * alone.
 * Rules are named by its ids (J2, N1, D19). One process takes one event at a time: the event, then the joint rules to a
 * fixed point, all in one step. Nothing here was taken from the core or the reference model.
 *
 * What it speaks of: ACTIVE_TURNS, QUEUE, notices of the kinds QUEUE and TRIGGER, one attempt or two, no bound of mailbox
 * or queue that is ever reached, a root that has no turns. Left out: see specs/independent.md.
 *
 * Parameters, given by -D: N sub-agents, CAP slots, RES residency slots, MAILS unread mails that senders produce, OVER
 * max_overtaken, P1..P4 the parent of each agent (0: the root; a parent has a smaller number), and what may happen:
 * ASKS (turns spawn, ask and await their children), WAKES (notices are of the kind TRIGGER), INTERRUPTS, TREES (whole
 * subtrees are interrupted), CLOSES, FAULTS (of threads), SENDS (queue-only mail), ATTEMPTS (a turn is tried twice).
 * FAIR splits the world into a host and a thread for each agent, for claims under weak fairness; PRINT has each step
 * printed: state, event, state.
 */

#ifndef P1
#define P1 0
#endif
#ifndef P2
#define P2 0
#endif
#ifndef P3
#define P3 0
#endif
#ifndef P4
#define P4 0
#endif
#define NEVER_DUE 200
#ifndef SPOIL
#define SPOIL 0			/* a rule that is broken on purpose, to see the claims fail: 1: J6 as it was, 2: no turn is due,
				   3: the ready queue before returning turns */
#endif
#define IS_DUE (SPOIL != 2 && ready[0] != 0 && OVER < NEVER_DUE && passed >= OVER)
#define M (MAILS + N + 1)		/* places of a mailbox; notices come on top of what senders may produce */
#define MOST_PASSED (OVER > 1 -> OVER : 1)

/* identity */
#define UNKNOWN 0
#define OPEN 1
#define CLOSED 2
/* the turn */
#define NEW 0
#define QUEUED 1
#define STARTING 2
#define RUNNING 3
#define WAITING 4
#define RETURNING 5
#define STOPPING 6
#define ENDED 7
/* residency */
#define OUT 0
#define LOADING 1
#define IN 2
#define LEAVING 3
/* a mail: its sender (0: the host), and marks */
#define TRIG 8
#define NOTE 16
#define AWAITED 32
#define TOLD 1
#define UNTOLD 2
#ifdef WAKES
#define WAKE TRIG		/* notices ask for a turn */
#else
#define WAKE 0
#endif
#define FROM(m) ((m) & 7)
#define IS_REQUEST(m) (((m) & TRIG) && !((m) & NOTE))

byte ident[N + 1];
byte st[N + 1];
byte res[N + 1];
bool slot[N + 1];
bool waits[N + 1];		/* the turn has a wait that is not over */
byte count[N + 1];		/* unread mails */
byte mail[(N + 1) * M];		/* unread mail, in order */
byte ntaken[N + 1];
byte taken[(N + 1) * M];		/* requests of agents that the turn has read */
byte tried[N + 1];		/* bit v - 1: the flush of v failed for this starting turn (N3) */
byte serves[N + 1];		/* the starting turn for which the agent is leaving; 0: none (any more) */
/* lines, first come first; 0 ends them */
byte ready[N + 1];
byte starting[N + 1];
byte idle[N + 1];		/* the evictable agents, least recently used first (N1, N2) */
byte returning[N + 1];
byte lenders[N + 1];		/* turns that wait and hold a slot (J7) */
bool asks[N + 1];		/* has the parent's turn a request there that is not answered? (of the rest; for guards) */
bool noted[N + 1];		/* has the parent an unread notice of it? (likewise) */
#ifdef ATTEMPTS
bool attempts[N + 1];		/* a turn of it was returned, and none has ended since */
#endif
byte passed;			/* turns that got a slot since ready[0] became the one that has queued longest (J2) */

#ifdef FAIR
bool spoke[N + 1];		/* the turn has waited */
bool asked_for[N + 1];		/* unread trigger mail is there (of the rest, for claims) */
bool overrun;			/* one more than max_overtaken got a slot before the turn that has queued longest (L11) */
#endif

hidden byte e, a, b;
hidden byte i, j, k, x, y, v, w;
hidden byte di, dj;
hidden byte held, lent, occupied, nlenders;
hidden byte below_root[N + 1];
hidden byte changed, ok, began, had_slot, due, tells, moving;
hidden byte ends[N + 1];	/* TOLD: the turn ends, and its requesters are told by a notice; UNTOLD: it ends */
hidden byte asked[N + 1];		/* 1: it asked for the turn that ends, 3: and awaits it */

#define parent(n) ((n) == 1 -> P1 : ((n) == 2 -> P2 : ((n) == 3 -> P3 : P4)))
#define is_below(n, top) (parent(n) == top || (parent(n) != 0 && (parent(parent(n)) == top || \
	(parent(parent(n)) != 0 && parent(parent(parent(n))) == top))))
#define WORKS(n) (st[n] == RUNNING || st[n] == WAITING || st[n] == RETURNING)
#define STARTED(n) (WORKS(n) || st[n] == STOPPING)
#define NEEDS_ROOM(n) (st[n] == STARTING && res[n] == OUT)
#define IDLE(n) (st[n] == NEW || st[n] == ENDED)

/* Lines */

/* macros, because Spin takes no whole array as a parameter of an inline */
#define drop(line, n) \
	di = 0; dj = 0; \
	do \
	:: di < N -> if :: line[di] != n && line[di] != 0 -> line[dj] = line[di]; dj++ :: else fi; di++ \
	:: else -> break \
	od; \
	do :: dj < N -> line[dj] = 0; dj++ :: else -> break od

#define push(line, n) \
	di = 0; \
	do :: di < N && line[di] != 0 && line[di] != n -> di++ :: else -> break od; \
	line[di] = n

inline leave_ready(n) {
	if :: ready[0] == n -> passed = 0 :: else fi;	/* another one is the oldest now */
	drop(ready, n)
}

inline pass() {		/* a turn got a slot that was not the one that has queued longest */
#ifdef FAIR
	if :: ready[0] != 0 && OVER < NEVER_DUE && passed >= MOST_PASSED -> overrun = true :: else fi;
#endif
	if :: OVER < NEVER_DUE && ready[0] != 0 && passed < MOST_PASSED -> passed++ :: else fi
}

inline count_up() {
	held = 0; lent = 0; occupied = 0;
	for (di : 1 .. N) {
		held = held + slot[di];
		lent = lent + (STARTED(di) && !slot[di]);
		occupied = occupied + (res[di] != OUT)
	}
}

/* Mail */

inline put(to, m) { assert(count[to] < M); mail[(to) * M + count[to]] = m; count[to]++ }

inline has_trigger(n) {	/* -> ok */
	ok = false;
	for (di : 0 .. M - 1) { if :: di < count[n] && (mail[(n) * M + di] & TRIG) -> ok = true :: else fi }
}

#ifdef ATTEMPTS			/* max_attempts = 2 (section 7); not together with ASKS */
#define MAY_RETURN(n) (attempts[n] == 0)
#else
#define MAY_RETURN(n) false
#endif

inline read_all(n) {	/* the turn reads all unread mail; what it must answer, to agents, is kept */
	for (di : 0 .. M - 1) {
		if
		:: di < count[n] && (MAY_RETURN(n) || (IS_REQUEST(mail[(n) * M + di]) && FROM(mail[(n) * M + di]) != 0)) ->
			taken[(n) * M + ntaken[n]] = mail[(n) * M + di]; ntaken[n]++
		:: else
		fi
	}
	for (di : 0 .. M - 1) { mail[(n) * M + di] = 0 }
	count[n] = 0
}

/* Waits (section 7) */

inline forget_wait(n) {	/* its wait is over, or ends with its turn */
	waits[n] = false;
	drop(lenders, n);
	for (dj : M .. (N + 1) * M - 1) {
		if :: FROM(mail[dj]) == n && (mail[dj] & AWAITED) -> mail[dj] = mail[dj] - AWAITED :: else fi;
		if :: FROM(taken[dj]) == n && (taken[dj] & AWAITED) -> taken[dj] = taken[dj] - AWAITED :: else fi
	}
}

inline wait_over(n) {
	forget_wait(n);
	if :: st[n] == WAITING -> st[n] = RETURNING; push(returning, n) :: else fi
}

/* The end of a turn (D19): status, slot, requests answered, notices, next. `tells`: are requesters told by a notice? */

inline end_turn(n) {
	began = STARTED(n); had_slot = slot[n];
	st[n] = ENDED; slot[n] = false;
#ifdef ATTEMPTS
	attempts[n] = 0;
#endif
#ifdef FAIR
	spoke[n] = false;
#endif
	leave_ready(n);
	drop(starting, n); drop(returning, n);
	if :: waits[n] -> forget_wait(n) :: else fi;
	tried[n] = 0;
	if :: res[n] == IN -> drop(idle, n); push(idle, n) :: else fi;
	for (k : 1 .. N) { asked[k] = 0 }
	for (k : 0 .. M - 1) {
		if
		:: began && k < ntaken[n] ->
			w = taken[(n) * M + k];
			asked[FROM(w)] = asked[FROM(w)] | (w & AWAITED -> 3 : 1)
		:: !began && k < count[n] && (mail[(n) * M + k] & TRIG) ->	/* demoted (D5) */
			w = mail[(n) * M + k];
			if
			:: !(w & NOTE) && FROM(w) != 0 -> asked[FROM(w)] = asked[FROM(w)] | (w & AWAITED -> 3 : 1)
			:: else
			fi;
			w = w - TRIG; if :: w & AWAITED -> w = w - AWAITED :: else fi;
			mail[(n) * M + k] = w
		:: else
		fi
	}
	if :: began -> for (k : 0 .. M - 1) { taken[(n) * M + k] = 0 } ntaken[n] = 0 :: else fi;
	tell_those_who_asked(n);
	/* next: late trigger mail, unless a turn comes first */
	if
	:: had_slot && ident[n] == OPEN ->
		has_trigger(n);
		due = IS_DUE;
		if
		:: ok && !due && returning[0] == 0 ->
			st[n] = STARTING; slot[n] = true; push(starting, n); drop(idle, n); pass()
		:: else
		fi
	:: else
	fi
}

inline tell_those_who_asked(n) {
	for (k : 1 .. N) {
		if
		:: asked[k] == 3 -> wait_over(k)	/* its turn reads the notice in this step */
		:: asked[k] == 1 && tells && k != n && ident[k] == OPEN -> put(k, n + NOTE + WAKE)
		:: else
		fi
	}
}

inline bury(n) {	/* unread mail becomes dead letters; what it asked is answered */
	for (k : 1 .. N) { asked[k] = 0 }
	for (k : 0 .. M - 1) {
		if
		:: k < count[n] && IS_REQUEST(mail[(n) * M + k]) && FROM(mail[(n) * M + k]) != 0 ->
			w = mail[(n) * M + k]; asked[FROM(w)] = asked[FROM(w)] | (w & AWAITED -> 3 : 1)
		:: else
		fi
	}
	for (k : 0 .. M - 1) { mail[(n) * M + k] = 0 }
	count[n] = 0;
	tells = true; tell_those_who_asked(n)
}

/* Joint rules */

inline ask_for_turn(n) {	/* J1 */
	if
	:: ident[n] == OPEN && IDLE(n) -> has_trigger(n); if :: ok -> st[n] = QUEUED; push(ready, n) :: else fi
	:: else
	fi
}

inline ask_for_turns() {
	for (x : 1 .. N) { ask_for_turn(x) }
}

inline end_turns() {	/* those that end in this step; and what is closed is left with nothing */
	for (x : 1 .. N) {
		if :: ends[x] != 0 -> tells = (ends[x] == TOLD); end_turn(x); ends[x] = 0; ask_for_turn(x) :: else fi;
#ifdef CLOSES
		if :: ident[x] == CLOSED -> bury(x) :: else fi
#endif
	}
}

inline be_used(n) { drop(idle, n); push(idle, n) }

inline go_on() {
	x = returning[0]; drop(returning, x);
	st[x] = RUNNING; slot[x] = true;
	if :: waits[x] -> push(lenders, x) :: else fi;
	pass()
}

inline admit(n) {
	if :: ready[0] == n -> skip :: else -> pass() fi;
	leave_ready(n);
	st[n] = STARTING; slot[n] = true; push(starting, n); drop(idle, n)
}

inline deepest() {	/* -> y: the deepest of the ready queue, the oldest within a depth */
	y = ready[0];
	for (k : 1 .. N - 1) { if :: ready[k] != 0 && below_root[ready[k]] > below_root[y] -> y = ready[k] :: else fi }
}

inline lend() {
	x = lenders[0]; drop(lenders, x);
	st[x] = WAITING; slot[x] = false
}

inline swap() {		/* at the bound of lending L11 does not count it */
#ifdef FAIR
	k = overrun; lend(); go_on(); if :: lent >= RES - CAP -> overrun = k :: else fi
#else
	lend(); go_on()
#endif
}

inline serve() {	/* J2, J7, J8 */
	moving = true;
	do
	:: moving ->
		moving = false;
		count_up();
		due = IS_DUE && (returning[0] == 0 || passed >= 1);
		if
		:: held < CAP && due -> y = ready[0]; admit(y); moving = true
		:: held < CAP && !due && returning[0] != 0 && (SPOIL != 3 || ready[0] == 0) -> go_on(); moving = true
		:: held < CAP && !due && (SPOIL == 3 || returning[0] == 0) && ready[0] != 0 -> deepest(); admit(y); moving = true
		:: held == CAP && lenders[0] != 0 && due && lent < RES - CAP -> lend(); y = ready[0]; admit(y); moving = true
		:: held == CAP && lenders[0] != 0 && !(due && lent < RES - CAP) && returning[0] != 0 -> swap(); moving = true
		:: held == CAP && lenders[0] != 0 && !due && returning[0] == 0 && ready[0] != 0 && lent < RES - CAP ->
			lend(); deepest(); admit(y); moving = true
		:: held == CAP && lenders[0] != 0 && returning[0] == 0 && ready[0] != 0 && lent >= RES - CAP ->
			ok = true; nlenders = 0; y = 0;
			for (k : 0 .. N - 1) { if :: lenders[k] != 0 -> nlenders++; y = lenders[k] :: else fi }
			for (k : 1 .. N) { if :: st[k] == STOPPING && !slot[k] -> ok = false :: else fi }
			if :: ok && nlenders == held -> wait_over(y); moving = true :: else fi	/* J8: STALLED */
		:: else
		fi
	:: else -> break
	od
}

inline start(n) {	/* J3 */
	st[n] = RUNNING;
	drop(starting, n); drop(idle, n);
	tried[n] = 0;
	read_all(n)
}

inline find_victim(n) {	/* N2 -> v, 0 if there is none that was not tried for this turn */
	v = 0;
	for (k : 0 .. N - 1) {
		if
		:: v == 0 && idle[k] != 0 && !((tried[n] >> (idle[k] - 1)) & 1) ->
			has_trigger(idle[k]); if :: !ok -> v = idle[k] :: else fi
		:: else
		fi
	}
	for (k : 0 .. N - 1) {
		if :: v == 0 && idle[k] != 0 && !((tried[n] >> (idle[k] - 1)) & 1) -> v = idle[k] :: else fi
	}
}

inline advance() {	/* J3 to J6: one rule, for the turn that has been starting longest of those that one applies to */
	for (k : 1 .. N) {
		if
		:: serves[k] != 0 && !NEEDS_ROOM(serves[k]) -> serves[k] = 0	/* not needed any more */
		:: else
		fi
	}
	j = 0; moving = false;
	do
	:: !moving && j < N && starting[j] != 0 ->
		x = starting[j];
		count_up();
		if
		:: res[x] == IN -> start(x); moving = true
		:: res[x] == OUT && occupied < RES -> res[x] = LOADING; tried[x] = 0; moving = true	/* J4 */
		:: res[x] == LEAVING ->		/* J6 */
			ok = true;
#if SPOIL != 1
			for (k : 0 .. N - 1) { if :: k < j && serves[x] != 0 && starting[k] == serves[x] -> ok = false :: else fi }
#endif
			if :: ok -> res[x] = IN; serves[x] = 0; moving = true :: else fi
		:: res[x] == OUT && occupied >= RES ->	/* J5 */
			y = 0; v = 0; w = 0;
			for (k : 1 .. N) {
				if :: res[k] == LEAVING && serves[k] == x -> y = k :: else fi;
				if :: res[k] == LEAVING && serves[k] == 0 && v == 0 -> v = k :: else fi;
				if :: (res[k] == LEAVING || res[k] == LOADING) && !slot[k] -> w = k :: else fi
			}
			if
			:: y != 0 -> skip
			:: y == 0 && v != 0 -> serves[v] = x; moving = true		/* D11 */
			:: else ->
				find_victim(x);
				if
				:: v != 0 -> res[v] = LEAVING; serves[v] = x; drop(idle, v); moving = true
				:: v == 0 && w != 0 -> skip	/* what is in transit ends as room or as a victim */
				:: else -> ends[x] = TOLD; moving = true	/* cannot start */
				fi
			fi
		:: else
		fi;
		j++
	:: else -> break
	od;
	changed = moving
}

inline settle() {
	changed = true;
	do
	:: changed -> end_turns(); ask_for_turns(); serve(); advance()
	:: else -> break
	od
}

/* Events */

#define SPAWN 1
#define FOLLOW_UP 2
#define SEND 3
#define LOADED 4
#define FLUSHED 5
#define FINISHED 6
#define INTERRUPT 7
#define ABORTED 8
#define CLOSE 9
#define RESUME 10
#define LOAD_FAILED 11
#define FLUSH_FAILED 12
#define FAILED 13
#define DIED 14
#define ASK_SPAWN 15
#define ASK 16
#define WAIT 17
#define WAIT_ANSWERED 18
#define STOP_WAITING 19
#define DRAIN 20
#define INTERRUPT_TREE 21

inline spawn(n, m) {
	ident[n] = OPEN; st[n] = NEW;
	put(n, m)
}

inline stop(n) {	/* a turn that works, with or without a slot */
	if :: waits[n] -> forget_wait(n) :: else fi;
	drop(returning, n);
#ifdef ATTEMPTS
	for (k : 0 .. M - 1) { taken[(n) * M + k] = 0 }	/* it is not returned any more, and has no requests of agents */
	ntaken[n] = 0;
#endif
	st[n] = STOPPING
}

inline stop_tree(n) {	/* and trigger mail from one of them to another becomes queue-only */
	for (x : 1 .. N) {
		if
		:: ident[x] == OPEN && (x == n || is_below(x, n)) ->
			if
			:: WORKS(x) -> stop(x)
			:: st[x] == QUEUED || st[x] == STARTING -> ends[x] = UNTOLD
			:: else
			fi;
			for (k : 0 .. M - 1) {
				w = FROM(mail[x * M + k]);
				if
				:: IS_REQUEST(mail[x * M + k]) && w != 0 && (w == n || is_below(w, n)) ->
					mail[x * M + k] = w		/* what awaited it is stopped as well */
				:: else
				fi
			}
		:: else
		fi
	}
}

#ifdef ATTEMPTS
inline return_turn(n) {		/* its mail is unread again, before what came later; no requester is told */
	st[n] = NEW; slot[n] = false; attempts[n] = true;
	for (k : 1 .. M) {
		if :: M - k < count[n] -> mail[(n) * M + M - k + ntaken[n]] = mail[(n) * M + M - k] :: else fi
	}
	for (k : 0 .. M - 1) {
		if :: k < ntaken[n] -> mail[(n) * M + k] = taken[(n) * M + k] :: else fi;
		taken[(n) * M + k] = 0
	}
	count[n] = count[n] + ntaken[n]; ntaken[n] = 0;
	assert(count[n] < M)
}
#endif

inline thread_is_lost(n) {	/* D4, D25 */
	i = res[n];
	res[n] = OUT; serves[n] = 0; drop(idle, n);
	if
#ifdef ATTEMPTS
	:: WORKS(n) && MAY_RETURN(n) -> return_turn(n)
	:: STARTED(n) && !(WORKS(n) && MAY_RETURN(n)) -> ends[n] = (st[n] == STOPPING -> UNTOLD : TOLD)
#else
	:: STARTED(n) -> ends[n] = (st[n] == STOPPING -> UNTOLD : TOLD)
#endif
	:: st[n] == STARTING && i == LOADING -> ends[n] = TOLD
	:: else
	fi
}

inline close(n) {	/* and all below it: in one step, waiting for no thread */
	for (x : 1 .. N) { if :: ident[x] == OPEN && (x == n || is_below(x, n)) -> ident[x] = CLOSED :: else fi }
	for (x : 1 .. N) {
		if
		:: ident[x] == CLOSED ->
			res[x] = OUT; serves[x] = 0; drop(idle, x);
			if :: !IDLE(x) -> ends[x] = TOLD :: else fi
		:: else
		fi
	}
}

inline wait_for(n, child) {	/* for its request at the child, of which there is one */
	waits[n] = true;
#ifdef FAIR
	spoke[n] = true;
#endif
	for (k : 0 .. M - 1) {
		if
		:: k < count[child] && IS_REQUEST(mail[(child) * M + k]) && FROM(mail[(child) * M + k]) == n ->
			mail[(child) * M + k] = mail[(child) * M + k] + AWAITED
		:: else
		fi;
		if :: FROM(taken[(child) * M + k]) == n -> taken[(child) * M + k] = taken[(child) * M + k] + AWAITED :: else fi
	}
	if :: slot[n] -> push(lenders, n) :: else fi
}

inline read_notice(n, child) {	/* the oldest of this child: what it answers is awaited, and the wait is over at once */
	ok = false;
	for (k : 0 .. M - 2) {
		if :: !ok && (mail[(n) * M + k] & NOTE) && FROM(mail[(n) * M + k]) == child -> ok = true :: else fi;
		if :: ok -> mail[(n) * M + k] = mail[(n) * M + k + 1] :: else fi
	}
	mail[(n) * M + M - 1] = 0;
	count[n]--
}

inline happen() {
	if
	:: e == SPAWN -> spawn(a, TRIG)
	:: e == FOLLOW_UP -> put(a, TRIG)
	:: e == SEND -> put(a, 0)
	:: e == LOADED -> res[a] = IN; if :: st[a] != STARTING -> be_used(a) :: else fi
	:: e == FLUSHED -> res[a] = OUT; serves[a] = 0
	:: e == FINISHED -> ends[a] = TOLD
#ifdef INTERRUPTS
	:: e == INTERRUPT ->
		if
		:: WORKS(a) -> stop(a)
		:: st[a] == QUEUED || st[a] == STARTING -> ends[a] = UNTOLD
		:: else
		fi
	:: e == ABORTED -> ends[a] = UNTOLD
#endif
#ifdef TREES
	:: e == INTERRUPT_TREE -> stop_tree(a)
#endif
#ifdef CLOSES
	:: e == CLOSE -> if :: ident[a] == OPEN -> close(a) :: else fi
	:: e == RESUME -> ident[a] = OPEN
#endif
#ifdef FAULTS
	:: e == LOAD_FAILED -> thread_is_lost(a)
	:: e == FLUSH_FAILED ->		/* N3 */
		res[a] = IN; if :: st[a] != STARTING -> be_used(a) :: else fi;
		if :: serves[a] != 0 -> tried[serves[a]] = tried[serves[a]] | (1 << (a - 1)) :: else fi;
		serves[a] = 0
	:: e == FAILED -> ends[a] = TOLD
	:: e == DIED -> thread_is_lost(a)
#endif
#ifdef ASKS
	:: e == ASK_SPAWN -> spawn(b, a + TRIG)
	:: e == ASK -> put(b, a + TRIG)
	:: e == WAIT -> wait_for(a, b)
	:: e == WAIT_ANSWERED -> read_notice(a, b)
	:: e == STOP_WAITING -> wait_over(a)
	:: e == DRAIN -> read_all(a)
#endif
	fi
}

inline look_around() {
	for (x : 1 .. N) {
		asks[x] = false; noted[x] = false;
#ifdef FAIR
		has_trigger(x); asked_for[x] = ok;
#endif
		if :: serves[x] != 0 && !NEEDS_ROOM(serves[x]) -> serves[x] = 0 :: else fi;
		for (k : 0 .. M - 1) {
			if
			:: parent(x) != 0 ->
				w = mail[x * M + k]; if :: IS_REQUEST(w) && FROM(w) == parent(x) -> asks[x] = true :: else fi;
				w = taken[x * M + k]; if :: FROM(w) == parent(x) -> asks[x] = true :: else fi;
				w = mail[parent(x) * M + k]; if :: (w & NOTE) && FROM(w) == x -> noted[x] = true :: else fi
			:: else
			fi
		}
	}
}

#define OPENED(n) ((n) == 0 || ident[n] == OPEN)

#define OF_HOST(n) \
	:: ident[n] == UNKNOWN && OPENED(parent(n)) -> e = SPAWN; a = n \
	:: ident[n] == OPEN && count[n] < MAILS -> e = FOLLOW_UP; a = n \
	OF_SENDER(n) OF_INTERRUPTER(n) OF_UPROOTER(n) OF_CLOSER(n) OF_ASKER(n) OF_FREE(n)
#define OF_THREAD(n) \
	:: res[n] == LOADING -> e = LOADED; a = n \
	:: res[n] == LEAVING -> e = FLUSHED; a = n \
	:: STARTED(n) && MUST_END(n) -> e = FINISHED; a = n \
	OF_STOPPER(n) OF_FAULTS(n)
#ifdef FAIR
/* fair is that a turn ends, not that it ends while it waits or has no slot; nor that a thread dies */
#define MUST_END(n) ((slot[n] && st[n] == RUNNING && !waits[n]) || st[n] == STOPPING)
#define OF_FREE(n) :: STARTED(n) && !MUST_END(n) -> e = FINISHED; a = n OF_DEATH(n)
/* a turn that asks and awaits in a loop is one that does not end, so it waits once */
#define MAY_ASK(n) (!spoke[n])
#else
#define MUST_END(n) true
#define OF_FREE(n) OF_DEATH(n)
#define MAY_ASK(n) true
#endif
#ifdef SENDS
#define OF_SENDER(n) :: ident[n] == OPEN && count[n] < MAILS -> e = SEND; a = n
#else
#define OF_SENDER(n)
#endif
#ifdef INTERRUPTS
#define OF_INTERRUPTER(n) :: ident[n] == OPEN -> e = INTERRUPT; a = n
#define OF_STOPPER(n) :: st[n] == STOPPING -> e = ABORTED; a = n
#else
#define OF_INTERRUPTER(n)
#define OF_STOPPER(n)
#endif
#ifdef TREES
#define OF_UPROOTER(n) :: ident[n] == OPEN -> e = INTERRUPT_TREE; a = n
#else
#define OF_UPROOTER(n)
#endif
#ifdef CLOSES
#define OF_CLOSER(n) \
	:: ident[n] != UNKNOWN -> e = CLOSE; a = n \
	:: ident[n] == CLOSED && OPENED(parent(n)) -> e = RESUME; a = n
#else
#define OF_CLOSER(n)
#endif
#ifdef FAULTS
#define OF_FAULTS(n) \
	:: res[n] == LOADING -> e = LOAD_FAILED; a = n \
	:: res[n] == LEAVING -> e = FLUSH_FAILED; a = n \
	:: STARTED(n) && MUST_END(n) -> e = FAILED; a = n
#define OF_DEATH(n) \
	:: STARTED(n) && !MUST_END(n) -> e = FAILED; a = n \
	:: res[n] != OUT -> e = DIED; a = n
#else
#define OF_FAULTS(n)
#define OF_DEATH(n)
#endif
#ifdef FAIR
#define OF_IMPATIENT(n)
#else
#define OF_IMPATIENT(n) :: WORKS(n) && waits[n] -> e = STOP_WAITING; a = n
#endif
#ifdef ASKS
#define OF_ASKER(n) \
	:: parent(n) != 0 && ident[n] == UNKNOWN && WORKS(parent(n)) && MAY_ASK(parent(n)) -> \
		e = ASK_SPAWN; a = parent(n); b = n \
	:: parent(n) != 0 && ident[n] == OPEN && WORKS(parent(n)) && MAY_ASK(parent(n)) && !asks[n] && count[n] < MAILS && \
		count[parent(n)] < MAILS -> e = ASK; a = parent(n); b = n \
	:: parent(n) != 0 && WORKS(parent(n)) && MAY_ASK(parent(n)) && !waits[parent(n)] && asks[n] -> \
		e = WAIT; a = parent(n); b = n \
	:: parent(n) != 0 && WORKS(parent(n)) && !waits[parent(n)] && noted[n] -> e = WAIT_ANSWERED; a = parent(n); b = n \
	OF_IMPATIENT(n) \
	:: WORKS(n) && count[n] > 0 -> e = DRAIN; a = n
#else
#define OF_ASKER(n)
#endif

c_decl {
static char before[2048], after[2048];
}

c_code {
#ifdef ATTEMPTS
#define TRIES(n) now.attempts[n]
#else
#define TRIES(n) 0
#endif

static char *line(char *to, uchar *of)
{	int n;
	*to++ = ' ';
	for (n = 0; n < N && of[n]; n++) *to++ = '0' + of[n];
	return to;
}

static void
show(char *to)
{	int n, p;
	for (n = 1; n <= N; n++) {
		to += sprintf(to, "%d%d%d%d%d%d[", now.ident[n], now.st[n], now.res[n], now.slot[n], now.waits[n], TRIES(n));
		for (p = 0; p < now.count[n]; p++) to += sprintf(to, "%d,", now.mail[n * M + p]);
		to += sprintf(to, "][");
		for (p = 0; p < now.ntaken[n]; p++) to += sprintf(to, "%d,", now.taken[n * M + p]);
		to += sprintf(to, "]%d,%d ", now.tried[n], now.serves[n]);
	}
	to = line(to, now.ready);
	to = line(to, now.starting);
	to = line(to, now.idle);
	to = line(to, now.returning);
	to = line(to, now.lenders);
	sprintf(to, " %d", now.passed);
}
};

#ifdef PRINT
#define NOTE_BEFORE c_code { show(before); }
#define NOTE_AFTER c_code { show(after); printf("@%s|%d %d %d|%s\n", before, e, a, b, after); }
#else
#define NOTE_BEFORE skip
#define NOTE_AFTER skip
#endif

/* What must hold in every state, as far as the variables say it */
inline judge() {
	count_up();
	assert(held <= CAP);						/* S1 */
	assert(occupied <= RES);					/* S2 */
	assert(lent <= RES - CAP);					/* S16 */
	assert(ready[0] == 0 || held == CAP);				/* L2 */
	assert(returning[0] == 0 || (held == CAP && lenders[0] == 0));	/* L2, L8 */
	assert(ready[0] == 0 || lenders[0] == 0 || lent == RES - CAP);	/* L8 */
	for (x : 1 .. N) {
		has_trigger(x);
		assert(!ok || !IDLE(x));						/* L2 */
		assert(!slot[x] || st[x] == STARTING || st[x] == RUNNING || st[x] == STOPPING);		/* S3 */
		assert(slot[x] || !(st[x] == STARTING || st[x] == RUNNING));	/* S3 */
		assert(!STARTED(x) || res[x] == IN);				/* S14 */
		assert(res[x] != LEAVING || !STARTED(x));			/* S6 */
		assert(ident[x] == OPEN || (IDLE(x) && res[x] == OUT && count[x] == 0))		/* S10 */
	}
}

/* One step. It is in an atomic: that it has parts is because Spin bounds the length of each. */
inline step() {
	d_step {
		NOTE_BEFORE;
		for (k : 1 .. N) { below_root[k] = (parent(k) == 0 -> 1 : below_root[parent(k)] + 1) }
		happen()
	};
	d_step { settle() };
	d_step {
		look_around();
		judge();
		NOTE_AFTER;
		e = 0; a = 0; b = 0
	}
}

#if N > 1
#define OF_HOST_2 OF_HOST(2)
#define OF_THREAD_2 OF_THREAD(2)
#else
#define OF_HOST_2
#define OF_THREAD_2
#endif
#if N > 2
#define OF_HOST_3 OF_HOST(3)
#define OF_THREAD_3 OF_THREAD(3)
#else
#define OF_HOST_3
#define OF_THREAD_3
#endif
#if N > 3
#define OF_HOST_4 OF_HOST(4)
#define OF_THREAD_4 OF_THREAD(4)
#else
#define OF_HOST_4
#define OF_THREAD_4
#endif

#ifndef FAIR

active proctype world() {
	do
	:: atomic { if OF_HOST(1) OF_THREAD(1) OF_HOST_2 OF_THREAD_2 OF_HOST_3 OF_THREAD_3 OF_HOST_4 OF_THREAD_4 fi; step() }
	od
}

#else

/* The host, and what turns do beside ending. It may do nothing for ever: no fairness of it is meant. */
active proctype host() {
	do
	:: atomic { if OF_HOST(1) OF_HOST_2 OF_HOST_3 OF_HOST_4 fi; step() }
	:: atomic { skip; skip }
	od
}

/* A thread owes one answer at a time, so that it is fair if its process is. */
active proctype thread_1() { do :: atomic { if OF_THREAD(1) fi; step() } od }
#if N > 1
active proctype thread_2() { do :: atomic { if OF_THREAD(2) fi; step() } od }
#endif
#if N > 2
active proctype thread_3() { do :: atomic { if OF_THREAD(3) fi; step() } od }
#endif
#if N > 3
active proctype thread_4() { do :: atomic { if OF_THREAD(4) fi; step() } od }
#endif

#define BEGUN(n) (st[n] == STARTING || STARTED(n))

/* theorem 2: unread trigger mail is read, demoted or a dead letter in the end */
#define THEOREM_2(n) { [] (asked_for[n] -> <> !asked_for[n]) }
/* L5: no load, flush, stop or starting turn goes on for ever if threads answer */
#define L5(n) { [] ((res[n] == LOADING -> <> (res[n] != LOADING)) && (res[n] == LEAVING -> <> (res[n] != LEAVING)) && \
	(st[n] == STOPPING -> <> (st[n] != STOPPING)) && (st[n] == STARTING -> <> (st[n] != STARTING))) }
/* L7: an open agent that is idle may be asked; one that was asked gets to its turn, or is idle again */
#define L7(n) { [] (((ident[n] == OPEN && IDLE(n)) -> !asked_for[n]) && \
	((st[n] == QUEUED || st[n] == STARTING) -> <> (STARTED(n) || IDLE(n)))) }
/* L12: a turn that returns goes on in the end */
#define L12(n) { [] (st[n] == RETURNING -> <> (st[n] != RETURNING)) }
/* L12: and no turn that has not begun begins before it (claimed where none is ever due) */
#define L12_BEFORE(n, m) { [] ((st[n] == RETURNING && !BEGUN(m)) -> \
	((!BEGUN(m) U (st[n] != RETURNING)) || [] !BEGUN(m))) }

/* and these must be false: what the claims speak of comes up */
#define NEVER_ASKED(n) { [] !asked_for[n] }
#define NEVER_STARTING(n) { [] (st[n] != STARTING && res[n] != LEAVING) }
#define NEVER_RETURNING(n) { [] (st[n] != RETURNING) }

ltl never_asked NEVER_ASKED(1)
ltl never_starting NEVER_STARTING(1)
ltl never_returning NEVER_RETURNING(1)
ltl l11 { [] !overrun }
ltl theorem2_1 THEOREM_2(1)
ltl l5_1 L5(1)
ltl l7_1 L7(1)
ltl l12_1 L12(1)
#if N > 1
ltl theorem2_2 THEOREM_2(2)
ltl l5_2 L5(2)
ltl l7_2 L7(2)
ltl l12_2 L12(2)
ltl l12_before_1_2 L12_BEFORE(1, 2)
#endif
#if N > 2
ltl theorem2_3 THEOREM_2(3)
ltl l5_3 L5(3)
ltl l7_3 L7(3)
ltl l12_3 L12(3)
ltl l12_before_1_3 L12_BEFORE(1, 3)
ltl l12_before_2_3 L12_BEFORE(2, 3)
#endif

#endif
