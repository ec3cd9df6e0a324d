/* SPDX-License-Identifier: Apache-2.0
 *
 * xl_ring_kick and xl_ring_arm (xenlike/_core/xl_ring.c), for either end.
 *
 *   -DASYMMETRIC             both ends have offered feature-asymmetric-fence. A membarrier may leave the other CPU
 *                            out, as Linux's does at times, so that a sleeper looks once more after a while
 *   -DNO_KICK_FENCE=cpu      that end's kick has no fence
 *   -DNO_ARM_FENCE=cpu       that end's arm has none
 *   -DNO_GRACE=cpu           that end never looks again once it sleeps
 *   -DNO_SECOND_LOOK=cpu     that end sleeps without a look after its event is visible
 */

#define NONE 2
#ifndef NO_KICK_FENCE
#define NO_KICK_FENCE NONE
#endif
#ifndef NO_ARM_FENCE
#define NO_ARM_FENCE NONE
#endif
#ifndef NO_GRACE
#define NO_GRACE NONE
#endif
#ifndef NO_SECOND_LOOK
#define NO_SECOND_LOOK NONE
#endif

/* Sets `word` to how far the other end has produced. */
#ifndef PRODUCED
#define PRODUCED(cpu, peer_prod) load(cpu, peer_prod, word)
#endif

/* Notifies the other end if its event was passed by what was published since the last kick. */
inline kick(cpu, prod, kicked, peer_event)
{
	if
	:: prod != kicked ->
#ifndef ASYMMETRIC
		if
		:: NO_KICK_FENCE != cpu -> fence(cpu)
		:: else
		fi;
#endif
		load(cpu, peer_event, word);
		d_step {
			if
			:: DIFF(prod, word) < DIFF(prod, kicked) -> pending[1 - cpu] = true
			:: else
			fi;
			kicked = prod;
			word = 0
		}
	:: else
	fi
}

/* Goes on with `late` set if `ahead` entries are there. Otherwise it may sleep. */
inline arm(cpu, cons, ahead, my_event, peer_prod)
{
	PRODUCED(cpu, peer_prod);
	if
	:: DIFF(word, cons) >= ahead -> late = true
	:: else ->
		store(cpu, my_event, ADD(cons, ahead));
		if
		:: NO_ARM_FENCE != cpu -> fence(cpu)
		:: else
		fi;
#ifdef ASYMMETRIC
		if
		:: membarrier()
		:: true
		fi;
#endif
		if
		:: NO_SECOND_LOOK != cpu ->
			PRODUCED(cpu, peer_prod);
			late = DIFF(word, cons) >= ahead
		:: else -> late = false
		fi
	fi;
	word = 0
}

inline wait_for_event(cpu) { d_step { pending[cpu] -> pending[cpu] = false } }

/*
 * Until the event, or until there has been a moment at which the peer's CPU had no store of its own to itself: a
 * timer tick of that CPU is one. Later stores find our event, so one look is enough.
 */
inline sleep(cpu, cons, ahead, peer_prod)
{
#ifdef ASYMMETRIC
	if
	:: wait_for_event(cpu)
	:: NO_GRACE != cpu && buffer[1 - cpu].used == 0 ->
		PRODUCED(cpu, peer_prod);
		if
		:: DIFF(word, cons) >= ahead
		:: else -> wait_for_event(cpu)
		fi;
		word = 0
	fi
#else
	wait_for_event(cpu)
#endif
}
