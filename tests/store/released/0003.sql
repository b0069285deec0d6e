BEGIN TRANSACTION;
CREATE TABLE axtx_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT axtx_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "axtx_alembic_version" VALUES('0003');
CREATE TABLE axtx_analyses (
	experiment VARCHAR(100) NOT NULL, 
	position INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	title TEXT NOT NULL, 
	subtitle TEXT NOT NULL, 
	section TEXT NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	html TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_axtx_analyses PRIMARY KEY (experiment, position), 
	CONSTRAINT fk_axtx_analyses_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_analyses" VALUES('digits',0,'Summary','Dígits','','["All"]','table','<p>☃ ''1''</p>','{"columns": ["trial_index", "loss"], "data": [[0, 0.30000000000000004], [1, null]]}',1.79565208293579888342e+09);
CREATE TABLE axtx_changes (
	experiment VARCHAR(100) NOT NULL, 
	position INTEGER NOT NULL, 
	request_id VARCHAR(100) NOT NULL, 
	action VARCHAR(20) NOT NULL, 
	trial_index INTEGER, 
	arguments TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	requested_by VARCHAR(250) NOT NULL, 
	via VARCHAR(20) NOT NULL, 
	requested_at DOUBLE NOT NULL, 
	settled_at DOUBLE, 
	outcome TEXT, 
	CONSTRAINT pk_axtx_changes PRIMARY KEY (experiment, position), 
	CONSTRAINT uq_axtx_changes_experiment_request_id UNIQUE (experiment, request_id), 
	CONSTRAINT fk_axtx_changes_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_changes" VALUES('digits',0,'3f-☃','pause',NULL,'{}','the cluster is needed
elsewhere','Vera '' \','page',1.79565208289328598974e+09,NULL,NULL);
INSERT INTO "axtx_changes" VALUES('digits',1,'4','queue_trial',NULL,'{"parameters": {"x": 0.1}}','','vera','cli',1.79565208292001795772e+09,1.79565208292705893512e+09,'trial 2');
CREATE TABLE axtx_dag_runs (
	dag_run VARCHAR(100) NOT NULL, 
	generation INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	clear_number INTEGER NOT NULL, 
	CONSTRAINT pk_axtx_dag_runs PRIMARY KEY (dag_run)
);
INSERT INTO "axtx_dag_runs" VALUES('dag-d45a2919f41c2ce8',0,1700000000.25,1);
CREATE TABLE axtx_experiments (
	name VARCHAR(100) NOT NULL, 
	uid VARCHAR(32) NOT NULL, 
	spec TEXT NOT NULL, 
	generator_state TEXT, 
	version INTEGER NOT NULL, 
	lease_owner VARCHAR(250), 
	lease_expires_at DOUBLE, 
	ax_version VARCHAR(50) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	stop_reason TEXT, 
	stopped_at DOUBLE, 
	planned_trials INTEGER, created_by TEXT, app TEXT, 
	CONSTRAINT pk_axtx_experiments PRIMARY KEY (name), 
	CONSTRAINT uq_axtx_experiments_uid UNIQUE (uid)
);
INSERT INTO "axtx_experiments" VALUES('Dígits 100 +~.:@=,x','e8855158d41348f4833d65fe45f649a8','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 6}',1,NULL,NULL,'',1.79565208264027023317e+09,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "axtx_experiments" VALUES('digits','52155fecf2df46bead421cabcfcec604','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 2}',1,NULL,NULL,'',1.79565208281144499773e+09,'max_trials: the experiment has 2 trials',1.79565208288236832613e+09,10,NULL,'{"component": "utils.booth", "component_args": {}, "scheduler": "slurm"}');
CREATE TABLE axtx_loops (
	experiment VARCHAR(100) NOT NULL, 
	loop_key VARCHAR(250) NOT NULL, 
	max_tries INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	stop_reason TEXT, definition TEXT, 
	CONSTRAINT pk_axtx_loops PRIMARY KEY (experiment, loop_key)
);
INSERT INTO "axtx_loops" VALUES('digits','dag/manual__2/tune/-1',2,1.79565208287208199502e+09,'max_trials: the experiment has 2 trials',NULL);
CREATE TABLE axtx_observations (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	metric VARCHAR(250) NOT NULL, 
	mean BLOB NOT NULL, 
	sem BLOB, 
	step BLOB, 
	CONSTRAINT pk_axtx_observations PRIMARY KEY (experiment, trial_index, position), 
	CONSTRAINT uq_axtx_observations_experiment_trial_index_metric_step UNIQUE (experiment, trial_index, metric, step), 
	CONSTRAINT fk_axtx_observations_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,0,'Loss',1.79769313486231562234e+308,NULL,NULL);
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,1,'loss',3.33333333333333314829e-01,NULL,1.0);
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,2,'loss',3.00000000000000044408e-01,4.94065645841247e-324,NULL);
CREATE TABLE axtx_runs (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	submission_key VARCHAR(100) NOT NULL, 
	claim VARCHAR(32) NOT NULL, 
	scheduler VARCHAR(250) NOT NULL, 
	tracker_base TEXT NOT NULL, 
	app_handle TEXT, 
	requested_at DOUBLE NOT NULL, 
	submitted_at DOUBLE, 
	finished_at DOUBLE, 
	cancel_requested_at DOUBLE, 
	cancel_reason TEXT, 
	app_state VARCHAR(20), 
	message TEXT, 
	unseen_polls INTEGER NOT NULL, 
	infrastructure BOOLEAN NOT NULL, 
	cpus INTEGER NOT NULL, 
	gpus INTEGER NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	task_id VARCHAR(250) NOT NULL, 
	map_index INTEGER NOT NULL, 
	try_number INTEGER NOT NULL, 
	max_tries INTEGER NOT NULL, 
	torchx_conn_id VARCHAR(250) NOT NULL, installation VARCHAR(250) DEFAULT '' NOT NULL, lookup_options TEXT, host VARCHAR(250), started_at DOUBLE, ended_at DOUBLE, poll_failures INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_axtx_runs PRIMARY KEY (experiment, trial_index, attempt), 
	CONSTRAINT uq_axtx_runs_submission_key UNIQUE (submission_key), 
	CONSTRAINT fk_axtx_runs_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',0,1,'d-gits-100-x-b0ccc17b9e-t0-a1','de276318f47e4f8a9a7460936ee29a73','local_detached','/results/d-gits-100-x-b0ccc17b9e-t0-a1','slurm://torchx/17',1.79565208265378236773e+09,1.79565208266105818743e+09,1.7956520826690757274e+09,NULL,NULL,'SUCCEEDED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',1,1,'d-gits-100-x-b0ccc17b9e-t1-a1','b7c5c1246f0c4e2a96aaba909dc229fa','local_detached','/results/d-gits-100-x-b0ccc17b9e-t1-a1','local_docker://torchx/a',1.79565208268419814114e+09,1.79565208269537115092e+09,1.79565208270342659951e+09,NULL,NULL,'FAILED','lost:
the container is gone \ ''',1,1,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',1,2,'d-gits-100-x-b0ccc17b9e-t1-a2','ea4307105f5745e7af7c25c1825fdca6','local_detached','/results/d-gits-100-x-b0ccc17b9e-t1-a2',NULL,1.79565208271201920504e+09,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',2,1,'d-gits-100-x-b0ccc17b9e-t2-a1','d704a07f9ccf45d19c1cc575cef111c6','local_detached','/results/d-gits-100-x-b0ccc17b9e-t2-a1','local_detached://torchx/b',1.79565208272664308553e+09,1.79565208273144459724e+09,1.79565208275914168362e+09,1.7956520827470870018e+09,'timeout after 60 s','CANCELLED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',4,1,'d-gits-100-x-b0ccc17b9e-t4-a1','997ed8df98454f1da410654c792b8d41','local_detached','/results/d-gits-100-x-b0ccc17b9e-t4-a1','kubernetes://torchx/trials:c',1.79565208278399896617e+09,1.79565208279941821096e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
CREATE TABLE axtx_trials (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	arm_name VARCHAR(250) NOT NULL, 
	parameters TEXT NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	generation_node VARCHAR(250), 
	generation TEXT NOT NULL, 
	origin VARCHAR(20) NOT NULL, 
	request_key VARCHAR(250), 
	dag_run VARCHAR(100), 
	reason TEXT, 
	evidence TEXT, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	completed_at DOUBLE, requested_by TEXT, 
	CONSTRAINT pk_axtx_trials PRIMARY KEY (experiment, trial_index), 
	CONSTRAINT uq_axtx_trials_experiment_request_key UNIQUE (experiment, request_key), 
	CONSTRAINT fk_axtx_trials_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',0,'0_0','{"x": 0.0, "kind": "a"}','COMPLETED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#0','dag',NULL,NULL,1.79565208264872479436e+09,1.79565208267668890949e+09,1.79565208267668890949e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#1','dag',NULL,NULL,1.79565208264872479436e+09,1.79565208269556689257e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',2,'2_0','{"x": 0.2857142857142857, "kind": "a"}','ABANDONED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#2','dag','timeout after 60 s',NULL,1.79565208264872479436e+09,1.79565208276753282548e+09,1.79565208276753282548e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',3,'3_0','{"x": 0.42857142857142855, "kind": "a"}','FAILED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#3','dag','loss is NaN','{"loss/mean": "NaN"}',1.79565208264872479436e+09,1.79565208277551651002e+09,1.79565208277551651002e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',4,'4_0','{"x": 0.5714285714285714, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#4','dag',NULL,NULL,1.79565208264872479436e+09,1.79565208279960703855e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',5,'5_0','{"x": 0.7142857142857143, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#5','dag',NULL,NULL,1.79565208264872479436e+09,1.79565208264872479436e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('digits',0,'0_0','{"x": 0.0, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#0','dag',NULL,NULL,1.79565208282890582079e+09,1.79565208282890582079e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('digits',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#1','dag',NULL,NULL,1.79565208282890582079e+09,1.79565208282890582079e+09,NULL,NULL);
CREATE INDEX ix_axtx_trials_experiment_status_updated_at ON axtx_trials (experiment, status, updated_at);
CREATE INDEX ix_axtx_trials_status_dag_run ON axtx_trials (status, dag_run);
CREATE INDEX ix_axtx_runs_finished_at ON axtx_runs (finished_at);
CREATE INDEX ix_axtx_runs_dag_id_run_id ON axtx_runs (dag_id, run_id);
CREATE INDEX ix_axtx_loops_loop_key ON axtx_loops (loop_key);
COMMIT;
