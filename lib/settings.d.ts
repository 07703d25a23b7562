// Generated from the table of settings in crates/engine by scripts/settings.mjs.
import type { Duration } from './options.js'

/**
 * The settings, one option each. What is not given comes from the environment, then from the configuration files, then
 * from the defaults named here.
 */
export interface VastSettings {
  /** Provider of the machines; this program knows `vast` only. Default `vast`. Environment: `CRABBOX_PROVIDER`. */
  provider?: 'vast' | 'vast-ai' | 'vastai'
  /** Vast.ai API key. Environment: `CRABBOX_VAST_API_KEY`, `VAST_API_KEY`. */
  apiKey?: string
  /** Address of the Vast.ai API, which receives the API key. Default `https://console.vast.ai/api/v0`. Environment: `CRABBOX_VAST_API_URL`, `VAST_API_URL`. */
  apiUrl?: string
  /** Kind of rental: `ondemand`, or `interruptible` for a bid that others can outbid. Default `ondemand`. Environment: `CRABBOX_VAST_INSTANCE_TYPE`. */
  instanceType?: 'ondemand' | 'on-demand' | 'on_demand' | 'interruptible'
  /** Bid for an interruptible machine, without its disk; 0 means the lowest bid that wins. Default `0` $/h. Environment: `CRABBOX_VAST_BID`. */
  bid?: number
  /** GPU model, such as `RTX_4090` or `RTX 4090`; empty means any. Environment: `CRABBOX_VAST_GPU_NAME`. */
  gpuName?: string
  /** Fewest GPUs an offer must have; 0 means any number. Default `0` GPUs. Environment: `CRABBOX_VAST_GPU_COUNT`. */
  gpuCount?: number
  /** Container image of the instance. Default `nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04`. Environment: `CRABBOX_VAST_IMAGE`. */
  image?: string
  /** Hash of a Vast.ai template to create from. Environment: `CRABBOX_VAST_TEMPLATE_ID`. */
  templateId?: string
  /** How the instance is reached; only `ssh_direct` works. Default `ssh_direct`. Environment: `CRABBOX_VAST_RUNTYPE`. */
  runtype?: 'ssh_direct'
  /** Disk of the instance; it counts towards the price. Default `20` GB. Environment: `CRABBOX_VAST_DISK_GB`. */
  diskGB?: number
  /** Price cap of the instance with its disk; 0 means no cap. Default `0` $/h. Environment: `CRABBOX_VAST_MAX_DPH_TOTAL`. */
  maxDphTotal?: number
  /** Most that one lease may cost in its whole TTL; 0 means no limit. Default `0` $. Environment: `CRABBOX_VAST_MAX_COST`. */
  maxCost?: number
  /** Most that all leases of this state directory may cost in a day; 0 means no limit. Default `0` $. Environment: `CRABBOX_VAST_MAX_COST_PER_DAY`. */
  maxCostPerDay?: number
  /** Lowest reliability of an offer, from 0 to 1. Default `0`. Environment: `CRABBOX_VAST_MIN_RELIABILITY`. */
  minReliability?: number
  /** Which offers come first: `field [asc|desc]`, several between commas. Default `dlperf_per_dphtotal desc`. Environment: `CRABBOX_VAST_ORDER`. */
  order?: string
  /** SSH user, unless `ssh.user` is set. Default `root`. Environment: `CRABBOX_VAST_USER`. */
  user?: string
  /** Directory on the instance under which leases work. Default `/work/crabbox`. Environment: `CRABBOX_VAST_WORK_ROOT`. */
  workRoot?: string
  /** What a release does: `destroy`, `stop` (storage is billed on) or `keep` (all is billed on). Default `destroy`. Environment: `CRABBOX_VAST_RELEASE_ACTION`. */
  releaseAction?: 'destroy' | 'delete' | 'stop' | 'keep'
  /** Longest time from the create to a ready lease. Default `20m0s`. Environment: `CRABBOX_VAST_BOOT_TIMEOUT`. */
  bootTimeout?: Duration
  /** How long a fresh instance may refuse the lease's key before the lease is given up. Default `2m0s`. Environment: `CRABBOX_VAST_SSH_TIMEOUT`. */
  sshTimeout?: Duration
  /** Packages on the instance: `none`, or `wait` to install git, rsync, tar and python3, which crabbox needs, before it is ready. Default `none`. Environment: `CRABBOX_VAST_BOOTSTRAP`. */
  bootstrap?: 'none' | 'wait'
  /** Lets files of a repository raise the price cap, weaken the release action and lengthen the life of leases. Default `false`. Environment: `CRABBOX_VAST_ALLOW_REPOSITORY_POLICY`. */
  allowRepositoryPolicy?: boolean
  /** Longest life of a lease. Default `1h30m0s`. Environment: `CRABBOX_TTL`. */
  ttl?: Duration
  /** Time without use after which a lease expires. Default `30m0s`. Environment: `CRABBOX_IDLE_TIMEOUT`. */
  idleTimeout?: Duration
  /** Group that a new lease is recorded in; `list` and `cleanup` keep to the one that is named with them. Environment: `CRABBOX_POND`. */
  pond?: string
  /** TCP ports recorded on a new lease for crabbox's `pond connect`; nothing is opened, `tunnel` reaches every port. */
  expose?: string | number | readonly (string | number)[]
  /** Profile recorded on the lease. Default `default`. Environment: `CRABBOX_PROFILE`. */
  profile?: string
  /** Machine class recorded on the lease; it selects nothing at Vast.ai. Default `beast`. */
  class?: string
  /** Removes from the instance what an earlier sync brought and is gone here. Default `true`. Environment: `CRABBOX_SYNC_DELETE`. */
  syncDelete?: boolean
  /** Compares files by their content, not by size and modification time. Default `false`. Environment: `CRABBOX_SYNC_CHECKSUM`. */
  syncChecksum?: boolean
  /** Shown by `config show` for crabbox, which clones on the instance; here files travel directly. Default `true`. Environment: `CRABBOX_SYNC_GIT_SEED`. */
  syncGitSeed?: boolean
  /** Skips the sync when nothing changed on either side. Default `true`. Environment: `CRABBOX_SYNC_FINGERPRINT`. */
  syncFingerprint?: boolean
  /** Shown by `config show` for crabbox, which fetches this branch on the instance. Environment: `CRABBOX_SYNC_BASE_REF`. */
  syncBaseRef?: string
  /** What stays behind, besides the built-in list; a later `!pattern` brings back, and each file adds its own. */
  syncExclude?: string | readonly string[]
  /** If given, only what one of these patterns names from the root on is synced. */
  syncInclude?: string | readonly string[]
  /** Longest time of a sync. Default `15m0s`. Environment: `CRABBOX_SYNC_TIMEOUT`. */
  syncTimeout?: Duration
  /** Files in a sync from which on there is a warning; 0 means never. Default `50000` files. Environment: `CRABBOX_SYNC_WARN_FILES`. */
  syncWarnFiles?: number
  /** Bytes in a sync from which on there is a warning; 0 means never. Default `5368709120` bytes. Environment: `CRABBOX_SYNC_WARN_BYTES`. */
  syncWarnBytes?: number
  /** Files in a sync from which on it is refused; 0 means never. Default `150000` files. Environment: `CRABBOX_SYNC_FAIL_FILES`. */
  syncFailFiles?: number
  /** Bytes in a sync from which on it is refused; 0 means never. Default `21474836480` bytes. Environment: `CRABBOX_SYNC_FAIL_BYTES`. */
  syncFailBytes?: number
  /** Refuses no sync for its size. Default `false`. Environment: `CRABBOX_SYNC_ALLOW_LARGE`. */
  syncAllowLarge?: boolean
  /** Refuses no sync because 200 or more tracked files are deleted here. Default `false`. Environment: `CRABBOX_ALLOW_MASS_DELETIONS`. */
  syncAllowMassDeletions?: boolean
  /** Local variables that commands on the instance receive; a final `*` matches any ending. Default `CI,NODE_OPTIONS`. Environment: `CRABBOX_ENV_ALLOW`. */
  envAllow?: string | readonly string[]
  /** SSH user for every provider; it wins over `vast.user`. Environment: `CRABBOX_SSH_USER`. */
  sshUser?: string
  /** Shown by `config show` for crabbox; each lease has a key of its own. Environment: `CRABBOX_SSH_KEY`. */
  sshKey?: string
  /** Work root for every provider; `vast.workRoot` wins over it. Environment: `CRABBOX_WORK_ROOT`. */
  defaultWorkRoot?: string
  /** PEM file of certificate authorities to trust besides the system's. Environment: `NODE_EXTRA_CA_CERTS`. */
  extraCaFile?: string
}
