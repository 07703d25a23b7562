import type { EventCallback } from './events.js'
import type { VastSettings } from './settings.js'

/** What this package needs of an `AbortSignal`; every runtime's own signal fits. */
export interface AbortSignalLike {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** A duration: whole seconds, or text such as `90m` or `1h30m`. */
export type Duration = number | string

/** How a release ends an instance. `stop` keeps the disk, and the bill for it. `keep` touches nothing. */
export type ReleaseAction = 'destroy' | 'stop' | 'keep'

/** What stops a call and who hears of it. */
export interface CallOptions {
  /** Cancels the call: it undoes what it began and rejects with the signal's reason. */
  signal?: AbortSignalLike
  /** Receives what happens. */
  onEvent?: EventCallback
}

/** What every call takes. */
export interface VastOptions extends VastSettings, CallOptions {
  /** The environment to read settings and folders from; default `process.env`. Copied when the call begins. */
  env?: Readonly<Record<string, string | undefined>>
  /** The folder whose configuration files count; default the current one. */
  cwd?: string
}

/** What {@link acquire} takes. */
export interface AcquireOptions extends VastOptions {
  /** Lets the lease outlive this process; default `false`. Then only a given `ttl` or `release` ends it. */
  keep?: boolean
  /** A name for the lease; default a generated one. */
  slug?: string
  /**
   * A lease id of your choice, `cbx_` and twelve hexadecimal digits. It makes the call repeatable: another one with the
   * same id and the same request resolves with the same lease, whatever became of the first answer. A limit or a TTL
   * that the other call leaves out is that of the first one.
   */
  leaseId?: string
  /** Releases the lease when this process ends by itself; default the opposite of `keep`. */
  releaseOnExit?: boolean
}

/** What {@link release} takes. */
export interface ReleaseOptions extends VastOptions {
  /** What to do with the instance; default what the lease was made with. */
  action?: ReleaseAction | 'delete'
}

/** What {@link list} takes. */
export interface ListOptions extends VastOptions {
  /** Also the account's instances that are not leases; default `false`. */
  all?: boolean
}

/** What {@link status} takes. */
export interface StatusOptions extends VastOptions {
  /** Waits until the lease is ready; default `false`. */
  wait?: boolean
  /** Longest wait in whole seconds; default 300. */
  waitTimeout?: number
}

/** What {@link doctor} takes. */
export interface DoctorOptions extends VastOptions {
  /** A lease that is checked as well: lease id, slug or instance id. */
  id?: string
}

/** What {@link searchOffers} takes. */
export interface SearchOptions extends VastOptions {
  /** Most offers to give. */
  limit?: number
}

/** What calls that use a present lease take. */
export interface OpenOptions extends VastOptions {
  /** Takes over a lease that another repository made; default `false`. */
  reclaim?: boolean
}

/** What {@link cleanup} takes. */
export interface CleanupOptions extends VastOptions {
  /** Only says what would be done: nothing is changed, here or at Vast; default `false`. */
  dryRun?: boolean
}

/** What {@link forget} takes. */
export interface ForgetOptions extends VastOptions {
  /** Also when the instance may still be billed; default `false`. */
  yes?: boolean
}

/** What {@link adopt} takes. */
export interface AdoptOptions extends VastOptions {
  /** Cleanup leaves it alone; default `false`. */
  keep?: boolean
}

/** What {@link showConfig} takes. */
export interface ConfigOptions extends VastOptions {
  /** Where each setting came from, in place of crabbox's document; default `false`. */
  origin?: boolean
}
