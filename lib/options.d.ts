import type { EventCallback } from './events.js'

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

/**
 * Settings of Vast.ai. What is not given comes from the environment, then from the configuration files, then from the
 * defaults named here.
 */
export interface VastSettings {
  /** The API key. Better left to `CRABBOX_VAST_API_KEY` or `VAST_API_KEY`; it is never read from a file. */
  apiKey?: string
  /** The API's address; default Vast's own. HTTPS, or HTTP to this machine. */
  apiUrl?: string
  /** Default `ondemand`. `interruptible` bids, and may be outbid. */
  instanceType?: 'ondemand' | 'interruptible'
  /** GPU model, e.g. `RTX 4090` or `RTX_4090`; default any. */
  gpuName?: string
  /** Least number of GPUs; default 0, which is any. */
  gpuCount?: number
  /** Docker image; default `nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04`. */
  image?: string
  /** Hash of a Vast template. */
  templateId?: string
  /** How the instance runs; only `ssh_direct`. */
  runtype?: string
  /** Disk in GB; default 20. */
  diskGB?: number
  /** Most dollars per hour, disk included; default 0, which is no cap. */
  maxDphTotal?: number
  /** Least reliability of the host, from 0 to 1; default 0. */
  minReliability?: number
  /** Sorting of offers, e.g. `dph_total asc, dlperf desc`; default `dlperf_per_dphtotal desc`. */
  order?: string
  /** Remote user; default `root`. */
  user?: string
  /** Remote folder for work; default `/work/crabbox`. */
  workRoot?: string
  /** What a release does to the instance; default `destroy`. */
  releaseAction?: ReleaseAction
  /** Longest life of the lease. */
  ttl?: Duration
  /** Longest time without a touch or a connection. */
  idleTimeout?: Duration
}

/** What every call takes. */
export interface VastOptions extends VastSettings, CallOptions {
  /** The environment to read settings, proxies and folders from; default `process.env`. Copied when the call begins. */
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
  /** Releases the lease when this process ends by itself; default the opposite of `keep`. */
  releaseOnExit?: boolean
}

/** What {@link release} takes. */
export interface ReleaseOptions extends VastOptions {
  /** What to do with the instance; default what the lease was made with. */
  action?: ReleaseAction
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

/** What {@link searchOffers} takes. */
export interface SearchOptions extends VastOptions {
  /** Most offers to give. */
  limit?: number
}
