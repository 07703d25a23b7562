import type { ReleaseAction } from './options.js'

/** Where an instance's SSH is: at its own address, or through Vast's proxy. */
export interface Endpoint {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly kind: 'direct' | 'proxy'
}

/** The GPUs of an instance. */
export interface Gpu {
  readonly name: string
  readonly count: number
}

/** A fresh lease. Ids are text, because Vast's numbers may outgrow JavaScript's; times are RFC 3339. */
export interface LeaseInfo {
  /** `cbx_` and twelve hexadecimal digits. */
  readonly id: string
  /** Its name for people. */
  readonly slug: string
  readonly instance: string
  readonly offer: string
  /** Dollars per hour, disk included. */
  readonly price: number
  readonly gpu: Gpu
  readonly endpoint: Endpoint
  /** Whether it outlives the process that acquired it. */
  readonly keep: boolean
  readonly workRoot: string
  /** The instance's SSH host key in OpenSSH form, as first seen. */
  readonly hostKey: string
  readonly createdAt: string
  /** When it ends at the latest, touches aside. */
  readonly expiresAt: string | null
}

/** A line of {@link list}. */
export interface LeaseSummary {
  /** `null` for an instance that is not a lease. */
  readonly id: string | null
  readonly slug: string | null
  readonly instance: string
  /** `provisioning`, `ready`, `running`, `stopped`, or what else the instance is in. */
  readonly state: string
  readonly gpu: Gpu | null
  /** Dollars per hour, disk included. */
  readonly price: number | null
  readonly host: string | null
  readonly keep: boolean
  /** Whether this machine has the claim that allows its release. */
  readonly claimed: boolean
  readonly createdAt: string | null
  readonly expiresAt: string | null
  readonly labels: Readonly<Record<string, string>>
}

/** The state of one lease. */
export interface LeaseStatus extends LeaseSummary {
  /** Whether SSH let us in and the ready check passed. */
  readonly ready: boolean
  readonly endpoint: Endpoint | null
  readonly lastTouchedAt: string | null
  readonly idleTimeoutSeconds: number | null
}

/** A touched lease. */
export interface Touched {
  readonly id: string
  readonly lastTouchedAt: string
  readonly expiresAt: string | null
}

/** A released lease. */
export interface Released {
  readonly id: string
  readonly slug: string
  readonly instance: string | null
  readonly action: ReleaseAction
  /** Whether it is proved that the instance does not exist any more. */
  readonly gone: boolean
}

/** An offer that met the requirements, as it was checked here. */
export interface Offer {
  readonly id: string
  readonly machine: string
  readonly gpu: Gpu
  /** Memory of one GPU in megabytes. */
  readonly gpuMemoryMb: number | null
  /** Dollars per hour with the requested disk. */
  readonly price: number
  readonly reliability: number | null
  readonly location: string | null
  /** Most disk that it can give, in GB. */
  readonly diskGB: number | null
  readonly cudaVersion: string | null
  /** How long the host offers it, in seconds. */
  readonly durationSeconds: number | null
}

/** What {@link doctor} found. A failed check does not reject the call. */
export interface DoctorReport {
  readonly ok: boolean
  readonly provider: string
  readonly checks: readonly DoctorCheck[]
}

/** One check. */
export interface DoctorCheck {
  readonly status: 'ok' | 'warn' | 'failed' | 'skip'
  readonly check: string
  readonly provider?: string
  readonly message?: string
  readonly details?: Readonly<Record<string, string>>
}
