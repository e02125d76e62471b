// Times of a queue, in milliseconds. BullMQ's own would leave the trial of a worker that is gone for more than a
// minute.

/** How often a worker and a coordinator say that they are there. */
export const HEARTBEAT_MS = 2500;
/** After which silence they count as gone. */
export const ALIVE_MS = 15_000;
/** For how long a job belongs to a worker that does not say so again. It says so three times in that. */
export const LOCK_MS = 15_000;
/** How often workers look for jobs that belong to nobody any more. */
export const STALLED_MS = 5000;
/**
 * After which another worker has the trial of one that was killed or hangs: its lock runs out, and the second look
 * after that finds it at the latest.
 */
export const TAKEOVER_MS = LOCK_MS + 2 * STALLED_MS;
/** After which silence of the coordinator a report is sent again. */
export const ASK_AGAIN_MS = 5000;
/** What trials may take to end when their worker is asked to. */
export const GRACE_MS = 1200;
/** What a worker or coordinator that ends waits for its last words to Redis. */
export const LEAVING_MS = 1800;
