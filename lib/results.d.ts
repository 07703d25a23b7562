import type { ReleaseAction } from './options.js'

/** Where an instance's SSH is: at its own address, or through Vast's proxy. */
export interface Endpoint {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly kind: 'direct' | 'proxy'
}

/**
 * A lease. Ids are text, because Vast's numbers may outgrow JavaScript's; times are RFC 3339; money is dollars per hour,
 * disk included.
 */
export interface LeaseInfo {
  /** `cbx_` and twelve hexadecimal digits. */
  readonly id: string
  /** Its name for people. */
  readonly slug: string
  readonly instance: string
  /** The rented offer, where that was recorded. */
  readonly offer: string | null
  readonly price: number | null
  /** GPU model. */
  readonly gpu: string
  readonly endpoint: Endpoint
  /** Whether it outlives the process that acquired it. */
  readonly keep: boolean
  /** The remote folder below which work happens. */
  readonly workRoot: string
  readonly idleTimeoutSeconds: number
  /** When it may be swept, touches aside. */
  readonly expiresAt: string | null
  /** What ends the instance by itself, also when this machine is lost. */
  readonly deadman: Deadman
}

/** The dead-man switch: a watchdog on the instance that destroys that one instance at its deadline. */
export interface Deadman {
  readonly armed: boolean
  /** The deadline that comes first, RFC 3339. */
  readonly until: string | null
  /** The end that no use moves. */
  readonly endsAt: string | null
  /** The deadline that each use moves. */
  readonly idleUntil: string | null
  /** The instance said so just now; otherwise it is what was recorded when the lease was made. */
  readonly confirmed: boolean
  /** The programs with which the instance can call the API. */
  readonly clients: readonly string[]
  /** Why it is not armed. */
  readonly whyNot: string | null
}

/** A line of {@link list}. */
export interface LeaseSummary {
  /** `null` for an instance that is not a lease. */
  readonly id: string | null
  /** The slug; for others their label, or the instance id. */
  readonly slug: string
  readonly instance: string
  /** What the container does; `ready` for a running one. */
  readonly state: string
  readonly gpu: string
  readonly price: number | null
  /** What it cost so far at that price, in dollars; at most, since only running GPUs are billed in full. */
  readonly accruedDollars: number | null
  readonly host: string | null
  readonly keep: boolean
  /** Whether this machine has the claim that allows its release. */
  readonly claimed: boolean
  readonly labels: Readonly<Record<string, string>>
}

/** The state of one lease. */
export interface LeaseStatus {
  readonly id: string
  readonly slug: string
  readonly instance: string | null
  /** `ready`, `provisioning`, `stopped`, `outbid`, … */
  readonly state: string
  /** What to do about that state, where something is to be done. */
  readonly advice: string | null
  /** Whether SSH let us in just now. */
  readonly ready: boolean
  readonly gpu: string
  readonly price: number | null
  /** What it cost so far at that price, in dollars; at most, since only running GPUs are billed in full. */
  readonly accruedDollars: number | null
  /** The one that let us in, or the first one known. */
  readonly endpoint: Endpoint | null
  /** Where the lease's private key is on this machine. */
  readonly keyPath: string | null
  readonly keep: boolean
  /** Whether this machine has the claim that allows its release. */
  readonly claimed: boolean
  readonly createdAt: string | null
  readonly lastTouchedAt: string | null
  readonly idleSeconds: number | null
  readonly idleTimeoutSeconds: number | null
  readonly ttlSeconds: number | null
  readonly expiresAt: string | null
  /** Absent where there is no claim. */
  readonly deadman: Deadman | null
  readonly labels: Readonly<Record<string, string>>
}

/** A touched lease. */
export interface Touched {
  readonly id: string
  readonly slug: string
  readonly state: string
  readonly lastTouchedAt: string | null
  readonly expiresAt: string | null
  /** After it was told of the use; null where being idle ends nothing, or the instance was not reached. */
  readonly deadman: Deadman | null
}

/** What a release came to: `stopped` still bills the disk, `kept` everything. The first three are proved. */
export type ReleaseOutcome = 'destroyed' | 'already-gone' | 'never-created' | 'stopped' | 'kept'

/** A released lease. */
export interface Released {
  readonly id: string
  readonly slug: string
  readonly instance: string | null
  /** What was to be done. */
  readonly action: ReleaseAction
  /** What was done. */
  readonly outcome: ReleaseOutcome
}

/** An offer that met the requirements, as it was checked here. */
export interface Offer {
  readonly id: string
  readonly machine: string | null
  readonly gpu: string
  readonly gpuCount: number
  /** Memory of one GPU in GB. */
  readonly gpuRamGb: number | null
  /** Dollars per hour with the requested disk. */
  readonly price: number
  /** The bid, where the settings ask for an interruptible instance. */
  readonly bid: number | null
  /** From 0 to 1. */
  readonly reliability: number | null
  readonly cpuCores: number | null
  /** Most disk that it can give, in GB. */
  readonly diskGb: number | null
  readonly downMbps: number | null
  /** Newest CUDA version that its driver takes. */
  readonly cuda: number | null
  readonly dlperfPerDollar: number | null
  readonly location: string | null
}

/** What {@link doctor} found. A failed check does not reject the call. */
export interface DoctorReport {
  readonly ok: boolean
  readonly provider: string
  readonly checks: readonly DoctorCheck[]
  /** Why the first check that failed did so. */
  readonly error?: {
    readonly code: string
    readonly message: string
    readonly hint?: string
    readonly retryable: boolean
    readonly details?: Readonly<Record<string, unknown>>
  }
}

/** One check. */
export interface DoctorCheck {
  readonly status: string
  readonly check: string
  readonly provider?: string
  readonly message?: string
  readonly details?: Readonly<Record<string, string>>
  /** What to do about a check that is not fine. */
  readonly hint?: string
}
