"""Workers as Slurm jobs, which come as the queue lets them and are gone at the end.

    with slurm_cluster(8, memory="16GB", walltime="08:00:00", gpus=1) as cluster:
        cluster.wait_for_workers(1)  # as long as the queue takes
        run("sweeps/ablation.yaml", scheduler=cluster.scheduler_address, resources={"GPU": 1})

The scheduler runs in this process, on a node that the jobs reach; notebooks, grid and results lie on a file system that
all nodes share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, DependencyMissing
from ..workers.cluster import ONE_THREAD

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

__all__ = ["slurm_cluster"]


def slurm_cluster(
    jobs: int, *, memory: str, walltime: str, cpus: int = 1, gpus: int = 0, **options: Any
) -> SLURMCluster:
    """Ask Slurm for jobs of one worker each, which does one run at a time.

    Args:
        jobs: how many; 0 asks for none yet (see ``scale``, ``adapt``, ``job_script`` of what is returned).
        memory: of a job, e.g. ``"16GB"``.
        walltime: of a job; a run that it cuts off is repeated by the next worker.
        cpus: cores of a job, which are the threads of numeric libraries in its run.
        gpus: per job (``--gres=gpu:N``); its worker then offers ``{"GPU": gpus}``, see ``run(resources=)``.
        options: anything else that :class:`dask_jobqueue.SLURMCluster` takes, e.g. ``queue="gpu"``, ``account="lab"``,
            ``job_script_prologue=["module load cuda"]``, ``job_extra_directives=["--constraint=a100"]``, or
            ``log_directory`` for the jobs' outputs, ``slurm-logs`` by default.

    Raises:
        ArgumentError: a number out of range.
        DependencyMissing: dask-jobqueue is not installed.
    """
    if jobs < 0 or cpus < 1 or gpus < 0:
        raise ArgumentError(
            f"jobs={jobs}, cpus={cpus}, gpus={gpus}: at least 0 jobs, 1 cpu, 0 gpus."
        )
    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError as error:
        raise DependencyMissing.for_extra(
            "dask_jobqueue", "sweep", "workers under Slurm"
        ) from error
    threads = [f"export {name}={cpus}" for name in ONE_THREAD]
    gres = [f"--gres=gpu:{gpus}"] if gpus else []
    offer = ["--resources", f"GPU={gpus}"] if gpus else []
    settings = {
        # Its HTTP server is for this machine alone, and the usual port may be taken.
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "log_directory": "slurm-logs",
        **options,
        "job_script_prologue": [*threads, *options.get("job_script_prologue", ())],
        "job_extra_directives": [*gres, *options.get("job_extra_directives", ())],
        "worker_extra_args": [*offer, *options.get("worker_extra_args", ())],
        # Threads of the worker, not cores of the job: one run at a time.
        **{"cores": 1, "processes": 1, "job_cpu": cpus},
    }
    return SLURMCluster(n_workers=jobs, memory=memory, walltime=walltime, **settings)
