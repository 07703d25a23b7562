// Generated from the table of settings in crates/engine by scripts/settings.mjs.
import type { Duration } from './options.js'

/**
 * The settings, one option each. What is not given comes from the environment, then from the configuration files, then
 * from the defaults named here.
 */
export interface VastSettings {
  /** Provider of the machines; this program knows `vast` only. Default `vast`. Environment: `CRABBOX_PROVIDER`. */
  provider?: 'vast'
  /** Vast.ai API key. Environment: `CRABBOX_VAST_API_KEY`, `VAST_API_KEY`. */
  apiKey?: string
  /** Address of the Vast.ai API, which receives the API key. Default `https://console.vast.ai/api/v0`. Environment: `CRABBOX_VAST_API_URL`, `VAST_API_URL`. */
  apiUrl?: string
  /** Kind of rental: `ondemand`, or `interruptible` for a bid that others can outbid. Default `ondemand`. Environment: `CRABBOX_VAST_INSTANCE_TYPE`. */
  instanceType?: 'ondemand' | 'interruptible'
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
  /** Lowest reliability of an offer, from 0 to 1. Default `0`. Environment: `CRABBOX_VAST_MIN_RELIABILITY`. */
  minReliability?: number
  /** Which offers come first: `field [asc|desc]`, several between commas. Default `dlperf_per_dphtotal desc`. Environment: `CRABBOX_VAST_ORDER`. */
  order?: string
  /** SSH user, unless `ssh.user` is set. Default `root`. Environment: `CRABBOX_VAST_USER`. */
  user?: string
  /** Directory on the instance under which leases work. Default `/work/crabbox`. Environment: `CRABBOX_VAST_WORK_ROOT`. */
  workRoot?: string
  /** What a release does: `destroy`, `stop` (storage is billed on) or `keep` (all is billed on). Default `destroy`. Environment: `CRABBOX_VAST_RELEASE_ACTION`. */
  releaseAction?: 'destroy' | 'stop' | 'keep'
  /** Longest time from the create to a ready lease. Default `20m0s`. Environment: `CRABBOX_VAST_BOOT_TIMEOUT`. */
  bootTimeout?: Duration
  /** How long a fresh instance may refuse the lease's key before the lease is given up. Default `2m0s`. Environment: `CRABBOX_VAST_SSH_TIMEOUT`. */
  sshTimeout?: Duration
  /** Lets files of a repository raise the price cap and weaken the release action. Default `false`. Environment: `CRABBOX_VAST_ALLOW_REPOSITORY_POLICY`. */
  allowRepositoryPolicy?: boolean
  /** Longest life of a lease. Default `1h30m0s`. Environment: `CRABBOX_TTL`. */
  ttl?: Duration
  /** Time without use after which a lease expires. Default `30m0s`. Environment: `CRABBOX_IDLE_TIMEOUT`. */
  idleTimeout?: Duration
  /** Profile recorded on the lease. Default `default`. Environment: `CRABBOX_PROFILE`. */
  profile?: string
  /** Machine class recorded on the lease; it selects nothing at Vast.ai. Default `beast`. */
  class?: string
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
