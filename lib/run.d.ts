import type { Command, ExecChunk, ExecResult, StreamOptions } from './exec.js'
import type { VastOptions } from './options.js'
import type { LeaseInfo, ReleaseOutcome } from './results.js'

/** What {@link run} takes: a `command`, a `script`, or `syncOnly`. */
export interface RunOptions<Data = string> extends VastOptions, StreamOptions<Data> {
  /** What to run; with a `script`, its arguments as an array of words. */
  command?: Command
  /** The path of a local script that is brought over and run. */
  script?: string
  /** Use this lease, by lease id, slug or instance id; without it one is rented. */
  id?: string
  /** Takes over a lease that another repository made; default `false`. */
  reclaim?: boolean
  /** Leaves the rented lease running; default `false`. */
  keep?: boolean
  /** Leaves the rented lease running when the command fails; default `false`. */
  keepOnFailure?: boolean
  /** When to release, whoever rented it; default: what this run rented, unless it is to be kept. */
  stopAfter?: 'never' | 'always' | 'success' | 'failure'
  /** A name for the rented lease; default a generated one. */
  slug?: string
  /** A lease id of your choice for the rented lease: repeating the call with it uses the same lease. */
  leaseId?: string
  /** How to bring the working tree over, or `false` to leave it here; default `true`. */
  sync?: boolean | SyncOptions
  /** Brings the working tree over and ends; default `false`. */
  syncOnly?: boolean
  /** Variables for the command, by name and value. `env` is the environment that settings are read from. */
  commandEnv?: Readonly<Record<string, string | undefined>>
  /** Names of variables of `env` for the command, besides those of the settings; a final `*` matches any ending. */
  allowEnv?: readonly string[]
  /** Files to fetch after a command that succeeded, each `remote` or `remote=local`. */
  downloads?: readonly string[]
  /**
   * Local files of `NAME=value` lines. The command receives those of their variables that `allowEnv` or the settings
   * name, in place of those of `env`; nothing in the files is run.
   */
  envProfiles?: readonly string[]
  /**
   * Files to bring back after a command that succeeded, in one archive below `.crabbox/runs`: shell patterns below the
   * folder of the command, in which `**` stands for any folders.
   */
  artifacts?: readonly string[]
  /** Files that must be there after a command that succeeded, or the run fails; they are in that archive too. */
  requiredArtifacts?: readonly string[]
  /** Writes an archive about a command that fails below `.crabbox/captures`; default `false`. */
  captureOnFail?: boolean
  /** A word for the reports. */
  label?: string
}

/** How a sync differs from what the settings say. */
export interface SyncOptions {
  /** Refuses nothing for its size. */
  forceLarge?: boolean
  /** Compares contents, not sizes and times. */
  checksum?: boolean
  /** Takes nothing to be there already: everything travels. */
  full?: boolean
}

/** What a sync did. */
export interface SyncReport {
  /** Nothing differed, so nothing was done. */
  readonly skipped: boolean
  /** Files and links in the tree. */
  readonly files: number
  readonly bytes: number
  /** Files that differ from the last commit. */
  readonly changedFiles: number
  readonly changedBytes: number
  /** Files and links that travelled. */
  readonly sentFiles: number
  readonly sentBytes: number
  /** Bytes that went over the connection. */
  readonly wireBytes: number
  /** Paths that were to be removed on the instance. */
  readonly removed: number
  readonly seconds: number
  /** Where the time went. */
  readonly steps: readonly { readonly name: string; readonly seconds: number }[]
  /** What should be known; each was a `warning` event too. */
  readonly warnings: readonly string[]
}

/** Where the time of a run went, in crabbox's words. */
export interface TimingReport {
  readonly provider: 'vast'
  readonly leaseId: string
  readonly slug: string
  readonly syncMs: number
  readonly syncSkipped: boolean
  readonly commandMs: number
  readonly totalMs: number
  readonly endToEndMs: number
  readonly exitCode: number
  readonly [name: string]: unknown
}

/** A finished run. A command that failed is a result, not an error. */
export interface RunResult<Data = string> extends Omit<ExecResult<Data>, 'exitCode'> {
  readonly runId: string
  readonly lease: LeaseInfo
  /** The folder on the instance in which the command ran. */
  readonly workdir: string
  /** The command's exit code; 128 and the signal's number when a signal ended it. */
  readonly exitCode: number
  /** Seconds until the lease was usable. */
  readonly leaseSeconds: number
  /** What the sync did, where there was one. */
  readonly sync: SyncReport | null
  readonly commandSeconds: number
  /** Seconds in all, release included. */
  readonly totalSeconds: number
  /** What the machine cost in that time at its price, in dollars; at most, since a booting one is billed for less. */
  readonly costDollars: number | null
  /** Whether the lease was released; `false` also where its release action kept it, `null` when it was to be left. */
  readonly released: boolean | null
  /** What the release came to; `null` where there was none, or it failed. */
  readonly releaseOutcome: ReleaseOutcome | null
  /** Why the release failed, if it did: the lease may still be billed. */
  readonly releaseError: string | null
  /** What decided: `auto`, or the given `stopAfter`. */
  readonly policy: 'auto' | 'never' | 'always' | 'success' | 'failure'
  /** The command that gives the lease back. */
  readonly stopCommand: string
  /** The archive of the artifacts, where there are any: its path below the working directory, and what is in it. */
  readonly artifacts: { readonly path: string; readonly bytes: number; readonly files: readonly string[] } | null
  /** The archive about a failure, below the working directory, where one was asked for. */
  readonly failureBundle: string | null
  readonly timing: TimingReport
}

/** A run under way: the promise of its result, and the command's output once, as it comes; see {@link RemoteCommand}. */
export interface RemoteRun<Data = string> extends Promise<RunResult<Data>>, AsyncIterable<ExecChunk<Data>> {}

/**
 * Brings the working tree to a lease, runs a command there, and gives back what it rented, whatever happens to the
 * command: also on a cancellation, and when this process ends by itself meanwhile.
 *
 * ```js
 * const { exitCode, costDollars } = await run({ command: ['make', 'test'], maxDphTotal: 0.6, downloads: ['report.xml'] })
 * ```
 *
 * @throws {@link VastLeaseError} with the code `cleanup_failed` when the command succeeded and the release did not.
 */
export declare function run(options: RunOptions<Uint8Array> & { encoding: 'buffer' }): RemoteRun<Uint8Array>
export declare function run(options: RunOptions): RemoteRun
