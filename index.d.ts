/// <reference lib="esnext.disposable" />

/**
 * Leases a Vast.ai GPU machine over SSH and gives it back.
 *
 * ```js
 * const { acquire } = require('crabbox-vast')
 *
 * const lease = await acquire({ gpuName: 'RTX 4090', maxDphTotal: 0.6 })
 * try {
 *   const { stdout, exitCode } = await lease.exec(['nvidia-smi', '-L'])
 * } finally {
 *   await lease.release()
 * }
 * ```
 *
 * With `await using lease = await acquire(…)` the release needs no `finally`. Garbage collection releases nothing.
 *
 * @packageDocumentation
 */
export * from './lib/error.js'
export * from './lib/events.js'
export * from './lib/exec.js'
export * from './lib/lease.js'
export * from './lib/operations.js'
export * from './lib/options.js'
export * from './lib/results.js'
export * from './lib/run.js'
export * from './lib/settings.js'
export * from './lib/shell.js'
export * from './lib/tunnel.js'
export * from './lib/upkeep.js'

/** The version of this package, its addon and its command line. */
export declare const version: string

/**
 * The path of the `crabbox-vast` binary, for starting it without `npx`: `CRABBOX_VAST_BINARY` where it is set, else
 * the one of the installed platform package, else a clone's newest build.
 *
 * @throws {@link VastLeaseError} with the code `native_unavailable` where there is none.
 */
export declare function binaryPath(options?: {
  /** Instead of `process.env`. */
  env?: Readonly<Record<string, string | undefined>>
}): string

/**
 * Makes signals release what this process leased: calls under way are undone, leases that end with the process are
 * released (at most 15 seconds), and then the signal ends the process as it would have. A second signal ends it at
 * once and names on standard error what is left.
 *
 * Never done by itself: signals belong to the program. Without it a signal leaves the lease to its TTL, to its idle
 * timeout and to `crabbox-vast stop`.
 *
 * @returns a function that takes the handlers away again.
 */
export declare function installSignalHandlers(options?: {
  /** Which signals; default `SIGINT`, `SIGTERM` and `SIGHUP`. */
  signals?: readonly string[]
}): () => void
