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
  /** What it cost so far, in dollars, at most. */
  readonly accruedDollars: number | null
  /** What is to become of it and is not done yet. */
  readonly ending: 'destroy' | 'stop' | null
  readonly host: string | null
  readonly keep: boolean
  /** Whether this machine has the claim that allows its release. */
  readonly claimed: boolean
  /** `unclaimed`: it has an ownership label, and its claim is elsewhere or lost. `foreign`: made by other means. */
  readonly ownership: 'claimed' | 'unclaimed' | 'foreign'
  readonly labels: Readonly<Record<string, string>>
}

/** The state of one lease. */
export interface LeaseStatus {
  readonly id: string
  readonly slug: string
  readonly instance: string | null
  /** `ready`, `provisioning`, `stopped`, `outbid`, … */
  readonly state: string
  /**
   * What is to become of it and is not done yet: its user asked for it, or a command began it and died. The next command that
   * rents, starts or ends anything does it.
   */
  readonly ending: 'destroy' | 'stop' | null
  /** What to do about that state, where something is to be done. */
  readonly advice: string | null
  /** Whether SSH let us in just now. */
  readonly ready: boolean
  readonly gpu: string
  readonly price: number | null
  /** What to do about a price that rose above the cap, where it did. */
  readonly priceWarning: string | null
  /** What it cost so far, in dollars, at most. */
  readonly accruedDollars: number | null
  /** When the host's contract ends: the machine is stopped then, and its data removed later. */
  readonly contractEndsAt: string | null
  /** What to do about a contract that ends before the lease, where it does. */
  readonly contractWarning: string | null
  /** The one that let us in, or the first one known. */
  readonly endpoint: Endpoint | null
  /** Where the lease's private key is on this machine. */
  readonly keyPath: string | null
  readonly keep: boolean
  /** The group it belongs to. */
  readonly pond: string | null
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
  readonly provider: 'vast'
  readonly state: string
  readonly lastTouchedAt: string | null
  /** As crabbox writes it, such as `30m0s`. */
  readonly idleTimeout: string | null
  readonly idleTimeoutSeconds: number | null
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

/** What {@link searchOffers} found. */
export interface OfferList {
  /** Best first. */
  readonly offers: readonly Offer[]
  /** How many offers each requirement refused. */
  readonly refused: Readonly<Record<string, number>>
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
  readonly error?: ErrorFacts
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

/** A finished {@link cleanup}. */
export interface Cleaned {
  readonly dryRun: boolean
  /** Every decision, in order. */
  readonly items: readonly CleanupItem[]
  /** What should be looked at by hand. */
  readonly problems: readonly string[]
  readonly summary: CleanupSummary
  /** What cut it short, else the first refusal or failure, where there is one; a dry run that foresees a refusal has none. */
  readonly error?: ErrorFacts
}

/** One decision of a cleanup and what came of it. */
export interface CleanupItem {
  readonly action: 'skip' | 'delete' | 'recover' | 'forget' | 'forget-keys'
  /** The lease. */
  readonly lease: string
  readonly instance: string | null
  /** Slug, or what the list shows. */
  readonly name: string
  readonly reason: string | null
  readonly outcome:
    | 'skipped'
    | 'planned'
    | 'destroyed'
    | 'already-gone'
    | 'never-created'
    | 'stopped'
    | 'bound'
    | 'forgotten'
    | 'refused'
    | 'failed'
  /** Of a refusal or failure. */
  readonly error: ErrorFacts | null
}

/** How many items of a cleanup came to what. */
export interface CleanupSummary {
  /** Instances destroyed, or found destroyed. */
  readonly destroyed: number
  readonly stopped: number
  /** Claims and keys removed without an instance. */
  readonly forgotten: number
  readonly skipped: number
  /** What a real run would do. */
  readonly planned: number
  /** Refused for want of a claim; in a dry run what a real run would refuse. */
  readonly refused: number
  readonly failed: number
}

/** An error inside a result. */
export interface ErrorFacts {
  readonly code: string
  readonly message: string
  readonly hint?: string
  readonly retryable: boolean
  readonly details?: Readonly<Record<string, unknown>>
}

/** The claims on this machine, as crabbox lists them. */
export interface ClaimsList {
  readonly version: number
  readonly source: 'local-claims'
  readonly claims: readonly ListedClaim[]
  /** Files that are no readable claims. */
  readonly problems: readonly Readonly<Record<string, unknown>>[]
  /** Where there are such files. */
  readonly error?: ErrorFacts
}

/** One claim; empty text is what it does not say. */
export interface ListedClaim {
  readonly leaseId: string
  readonly slug: string
  readonly provider: string
  readonly [name: string]: unknown
}

/** A forgotten claim. */
export interface Forgotten {
  readonly id: string
  readonly slug: string
  readonly instance: string | null
  /** Whether the instance is proved gone; otherwise it may still be billed. */
  readonly provedGone: boolean
  /** What is left of it, if that is known. */
  readonly left: string | null
  readonly price: number | null
}

/** An adopted instance. */
export interface Adopted {
  readonly id: string
  readonly slug: string
  readonly instance: string
  /** Whether a claim was made; `false` where there was one. */
  readonly claimed: boolean
  readonly keyAttached: boolean
  readonly expiresAt: string | null
  /** What ends the instance by itself from now on; where SSH did not answer, `whyNot` says so. */
  readonly deadman: Deadman
}

/** A finished copy. */
export interface Copied {
  readonly from: string
  /** Where it is now. */
  readonly to: string
  /** Files and links. */
  readonly files: number
  readonly bytes: number
  readonly seconds: number
  /** What was left out; each was a `warning` event too. */
  readonly warnings: readonly string[]
}

/** How to reach a lease with the `ssh` program. */
export interface SshCommand {
  /** The words of the command. */
  readonly argv: readonly string[]
  /** The same for a shell, every word in single quotes. */
  readonly line: string
  readonly host: string
  readonly port: number
  readonly user: string
  /** Path of the private key. */
  readonly key: string
  /** Path of the lease's `known_hosts`. */
  readonly knownHosts: string
}

/** A finished {@link liveSmoke}. */
export interface Smoked {
  readonly classification:
    | 'passed'
    | 'environment_blocked'
    | 'billing_blocked'
    | 'quota_blocked'
    | 'capacity_blocked'
    | 'validation_failed'
    | 'cleanup_failed'
  /** The exit code of the command line: 0 for passed and blocked, 2 for unsafe settings, else 1. */
  readonly exitCode: number
  readonly lease: string | null
  /** GPUs that were proved to work. */
  readonly gpus: number | null
  readonly message: string
  readonly steps: readonly { readonly step: string; readonly ok: boolean; readonly seconds: number; readonly message: string }[]
  /** Where it did not pass. */
  readonly error?: ErrorFacts
}

/** What there is to know of a provider. */
export interface Provider {
  readonly provider: string
  readonly family: string
  /** Other names it answers to. */
  readonly aliases: readonly string[]
  readonly kind: string
  readonly category: string
  /** Operating systems of its machines. */
  readonly targets: readonly string[]
  readonly features: readonly string[]
  readonly runtime: readonly string[]
  readonly reachability: readonly string[]
  readonly lifecycle: readonly string[]
  readonly coordinator: string
  readonly classCatalog: { readonly disposition: string; readonly profiles: readonly string[] }
}
