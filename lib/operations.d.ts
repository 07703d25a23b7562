import type { Lease } from './lease.js'
import type {
  AcquireOptions,
  DoctorOptions,
  ListOptions,
  OpenOptions,
  ReleaseOptions,
  SearchOptions,
  StatusOptions,
  VastOptions,
} from './options.js'
import type { DoctorReport, LeaseStatus, LeaseSummary, OfferList, Released, Touched } from './results.js'

/**
 * Rents the best offer under the price cap and resolves when a command can run on it.
 *
 * A record of the lease is on disk before anything is rented. A failure or a cancellation destroys what was rented; where
 * even that fails, the error's `details.lease` names what `release` must be called with. A lease that was there before, and
 * that a repeated call only opened, stays. A cancellation while a create is open waits for its answer, or for the proof that
 * it rented nothing.
 */
export declare function acquire(options?: AcquireOptions): Promise<Lease>

/**
 * Opens a session on a lease that is there, by lease id, slug or instance id, and binds it to this repository.
 *
 * Neither the end of this process nor disposal ends such a lease; `release()` does.
 */
export declare function open(id: string, options?: OpenOptions): Promise<Lease>

/**
 * Starts a stopped lease and resolves when a command can run on it. It bills from the start on; a failure or a cancellation
 * stops it again. As with {@link open} the lease stays when this process ends.
 */
export declare function start(id: string, options?: VastOptions): Promise<Lease>

/**
 * Ends a lease by lease id, slug or instance id, and proves that the instance is gone.
 *
 * Only a lease with a matching claim on this machine is ended; never an instance of somebody else.
 */
export declare function release(id: string, options?: ReleaseOptions): Promise<Released>

/** The leases of this account. */
export declare function list(options?: ListOptions): Promise<LeaseSummary[]>

/** The state of a lease by lease id, slug or instance id; with `wait`, once it is ready. */
export declare function status(id: string, options?: StatusOptions): Promise<LeaseStatus>

/** Moves the idle deadline of a lease, never its TTL. */
export declare function touch(id: string, options?: VastOptions): Promise<Touched>

/** Checks settings, state folder, API and key, with `id` that lease as well, and changes nothing. */
export declare function doctor(options?: DoctorOptions): Promise<DoctorReport>

/** The offers that an `acquire` with the same options would choose from, best first, and why others are not among them. */
export declare function searchOffers(options?: SearchOptions): Promise<OfferList>
