BEGIN TRANSACTION;
CREATE TABLE axtx_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT axtx_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "axtx_alembic_version" VALUES('0001');
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
	planned_trials INTEGER, 
	CONSTRAINT pk_axtx_experiments PRIMARY KEY (name), 
	CONSTRAINT uq_axtx_experiments_uid UNIQUE (uid)
);
INSERT INTO "axtx_experiments" VALUES('Dígits ''quoted'' "☃" 100 %','303603b4dbcf4d2a88750264c160b41a','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 6}',1,NULL,NULL,'',1.79556106132959890364e+09,NULL,NULL,NULL);
INSERT INTO "axtx_experiments" VALUES('digits','7079d7e4fb6d4661a15d6bc506fc521d','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 2}',1,NULL,NULL,'',1.79556106288401484487e+09,'search space exhausted',1.79556106292494916916e+09,NULL);
CREATE TABLE axtx_loops (
	experiment VARCHAR(100) NOT NULL, 
	loop_key VARCHAR(250) NOT NULL, 
	max_tries INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	stop_reason TEXT, 
	CONSTRAINT pk_axtx_loops PRIMARY KEY (experiment, loop_key)
);
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
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,0,'Loss',1.79769313486231562234e+308,NULL,NULL);
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,1,'loss',3.33333333333333314829e-01,NULL,1.0);
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,2,'loss',3.00000000000000044408e-01,4.94065645841247e-324,NULL);
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
	torchx_conn_id VARCHAR(250) NOT NULL, 
	CONSTRAINT pk_axtx_runs PRIMARY KEY (experiment, trial_index, attempt), 
	CONSTRAINT uq_axtx_runs_submission_key UNIQUE (submission_key), 
	CONSTRAINT fk_axtx_runs_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',0,1,'d-gits-quoted-100-611225e4d0-t0-a1','1a1105a064c24d4a9a10c98d03424de6','local_detached','/results/d-gits-quoted-100-611225e4d0-t0-a1','slurm://torchx/17',1.79556106160269689556e+09,1.79556106171620368959e+09,1.79556106178002166749e+09,NULL,NULL,'SUCCEEDED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',1,1,'d-gits-quoted-100-611225e4d0-t1-a1','45d3ed62003b4983ba638c9bfea62bcf','local_detached','/results/d-gits-quoted-100-611225e4d0-t1-a1','local_docker://torchx/a',1.79556106204784655575e+09,1.79556106219688630101e+09,1.79556106232746386531e+09,NULL,NULL,'FAILED','lost:
the container is gone \ ''',1,1,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',1,2,'d-gits-quoted-100-611225e4d0-t1-a2','42bcc931637c4c6bbbb16f7503cbebe9','local_detached','/results/d-gits-quoted-100-611225e4d0-t1-a2',NULL,1.79556106241423487661e+09,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',2,1,'d-gits-quoted-100-611225e4d0-t2-a1','362274574dfa450eb91ac685ac214a1d','local_detached','/results/d-gits-quoted-100-611225e4d0-t2-a1','local_detached://torchx/b',1.79556106251593923569e+09,1.79556106255121231077e+09,1.79556106267397165296e+09,1.79556106261190295218e+09,'timeout after 60 s','CANCELLED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',4,1,'d-gits-quoted-100-611225e4d0-t4-a1','040724ca518e45479448c26d40f12487','local_detached','/results/d-gits-quoted-100-611225e4d0-t4-a1','kubernetes://torchx/trials:c',1.7955610628486020565e+09,1.79556106285921430586e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
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
	completed_at DOUBLE, 
	CONSTRAINT pk_axtx_trials PRIMARY KEY (experiment, trial_index), 
	CONSTRAINT uq_axtx_trials_experiment_request_key UNIQUE (experiment, request_key), 
	CONSTRAINT fk_axtx_trials_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',0,'0_0','{"x": 0.0, "kind": "a"}','COMPLETED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#0','dag',NULL,NULL,1.79556106143863201136e+09,1.79556106186468839641e+09,1.79556106186468839641e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#1','dag',NULL,NULL,1.79556106143863201136e+09,1.79556106219726228714e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',2,'2_0','{"x": 0.2857142857142857, "kind": "a"}','ABANDONED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#2','dag','timeout after 60 s',NULL,1.79556106143863201136e+09,1.79556106274084067344e+09,1.79556106274084067344e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',3,'3_0','{"x": 0.42857142857142855, "kind": "a"}','FAILED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#3','dag','loss is NaN','{"loss/mean": "NaN"}',1.79556106143863201136e+09,1.79556106280781435959e+09,1.79556106280781435959e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',4,'4_0','{"x": 0.5714285714285714, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#4','dag',NULL,NULL,1.79556106143863201136e+09,1.79556106285948157306e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',5,'5_0','{"x": 0.7142857142857143, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#5','dag',NULL,NULL,1.79556106143863201136e+09,1.79556106143863201136e+09,NULL);
INSERT INTO "axtx_trials" VALUES('digits',0,'0_0','{"x": 0.0, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#0','dag',NULL,NULL,1.79556106290712499612e+09,1.79556106290712499612e+09,NULL);
INSERT INTO "axtx_trials" VALUES('digits',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#1','dag',NULL,NULL,1.79556106290712499612e+09,1.79556106290712499612e+09,NULL);
CREATE INDEX ix_axtx_trials_experiment_status_updated_at ON axtx_trials (experiment, status, updated_at);
CREATE INDEX ix_axtx_trials_dag_run_status ON axtx_trials (dag_run, status);
CREATE INDEX ix_axtx_runs_finished_at ON axtx_runs (finished_at);
CREATE INDEX ix_axtx_runs_dag_id_run_id ON axtx_runs (dag_id, run_id);
COMMIT;
